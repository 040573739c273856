/** Where the configuration lies unless the command line says otherwise. */
export const defaultPaths = { service: '/etc/web3-auth/config.toml', login: '/etc/pam_web3/config.toml' } as const
