import { z } from 'zod'
import { type ConfigFile, defineConfigFile } from './config-folder.ts'
import { absolutePath, address, optionalAddress, publicKey, rpcUrl, wholeNumber } from './fields.ts'

const blockchain = z.looseObject({
  chain_id: wholeNumber(1),
  rpc_url: z.union([rpcUrl.transform(url => [url]), z.array(rpcUrl).min(1, 'expected at least one URL')], {
    error: 'expected a URL, or a list of them',
  }),
  nft_contract: optionalAddress,
  subscription_contract: optionalAddress,
  usdc_address: optionalAddress,
})

const schema = z
  .looseObject({
    blockchain,
    auth: z
      .looseObject({
        otp_length: wholeNumber(4, 19).default(6),
        otp_ttl_seconds: wholeNumber(1, 86_400).default(300),
        public_secret: z.string().min(1).optional(),
      })
      .prefault({}),
    signing_page: z
      .looseObject({ port: wholeNumber(1, 65_535).default(8080), html_path: absolutePath.optional() })
      .prefault({}),
    deployer: z.looseObject({ private_key_file: absolutePath.default('/etc/blockhost/deployer.key') }).prefault({}),
    server: z.looseObject({ public_key: publicKey.optional() }).prefault({}),
    uniswap_v2: z
      .looseObject({ router: address, weth: address, usdc: optionalAddress, usdc_weth_pair: optionalAddress })
      .optional(),
  })
  .transform(file => ({
    chainId: file.blockchain.chain_id,
    rpcUrls: file.blockchain.rpc_url,
    nftContract: file.blockchain.nft_contract,
    subscriptionContract: file.blockchain.subscription_contract,
    usdcAddress: file.blockchain.usdc_address,
    otpLength: file.auth.otp_length,
    otpTtlSeconds: file.auth.otp_ttl_seconds,
    publicSecret: file.auth.public_secret,
    signingPagePort: file.signing_page.port,
    signingPagePath: file.signing_page.html_path,
    deployerKeyFile: file.deployer.private_key_file,
    serverPublicKey: file.server.public_key,
    uniswapV2:
      file.uniswap_v2 === undefined
        ? undefined
        : {
            router: file.uniswap_v2.router,
            weth: file.uniswap_v2.weth,
            usdc: file.uniswap_v2.usdc,
            usdcWethPair: file.uniswap_v2.usdc_weth_pair,
          },
  }))

/** `web3-defaults.yaml`: chain, contracts, sign-in. Contracts are `undefined` until they are deployed. */
export type Web3Config = Readonly<z.output<typeof schema>>

/** `web3-defaults.yaml`. `rpc_url` is a URL, or a list of them, best first. */
export const web3ConfigFile: ConfigFile<Web3Config> = defineConfigFile('web3-defaults.yaml', schema)
