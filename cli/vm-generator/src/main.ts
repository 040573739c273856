/** `vm-generator`: argv, environment and wiring. */
import { randomBytes } from 'node:crypto'
import type { Address } from '@blockhost/chain/hex.ts'
import { encryptAccessData, renderConnectionDetails } from '@blockhost/crypto/access-data.ts'
import { machineIdOf } from '@blockhost/crypto/signed-message.ts'
import { type EngineConfig, readEngineConfig } from '@blockhost/engine/config.ts'
import { configFolder, readConfigFile } from '@blockhost/hostconfig/config-folder.ts'
import { dbConfigFile } from '@blockhost/hostconfig/db-config.ts'
import { readCloudInitTemplate, renderCloudInit } from '@blockhost/image/cloud-init.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError, describeError, errorToJson, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import type { MintRequest } from '@blockhost/mint-nft/mint.ts'
import { openMinter } from '@blockhost/mint-nft/minter.ts'
import { parseIpv4Prefix } from '@blockhost/net/ipv4.ts'
import { connectHostProvisioner } from '@blockhost/provisioners/host-provisioner.ts'
import type { VmSpec } from '@blockhost/provisioners/provisioner.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import { openVmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { type GeneratorArgs, generatorUsage, parseGeneratorArgs } from './argv.ts'
import { type GenerateRequest, generateVm } from './generate.ts'

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), process.env)

/** Runs one command line to its end and returns the exit code. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const parsed = parseGeneratorArgs(argv)
  if (!parsed.ok) {
    const text = parsed.help ? generatorUsage : `vm-generator: ${parsed.message}\n\n${generatorUsage}`
    process[parsed.help ? 'stdout' : 'stderr'].write(text)
    return parsed.help ? exitCodes.ok : exitCodes.usage
  }
  try {
    print(await run(parsed.args, env))
    return exitCodes.ok
  } catch (error) {
    process.stderr.write(`vm-generator: ${describeError(error)}\n`)
    print({ status: 'failed', vm_name: parsed.args.name, error: errorToJson(error) })
    return toExitCode(error)
  }
}

async function run(args: GeneratorArgs, env: NodeJS.ProcessEnv): Promise<Record<string, unknown>> {
  const folder = configFolder(env)
  const config = readEngineConfig(folder)
  const template = readCloudInitTemplate(args.cloudInit)
  const signature = args.signatureFile === undefined ? undefined : readSignature(args.signatureFile)
  const request = toRequest(args, config, readConfigFile(dbConfigFile, folder).defaultExpiryDays)
  const specOf = (vm: Vm) => specFor(vm, args, config, template)
  if (!args.apply) return dryRun(args, request, config)
  using vms = openVmDatabase(config.vmDatabasePath, config.pools, systemClock)
  const provisioner = connectHostProvisioner(config, vms)
  using minter = args.mint ? openMinter(config) : undefined
  const requestOf = (vm: Vm) => mintRequestFor(vm, args, config, signature)
  const mint = minter === undefined ? {} : { mint: { deps: minter, requestOf } }
  return resultOf(await generateVm({ vms, provisioner, specOf, ...mint }, request))
}

function toRequest(args: GeneratorArgs, config: EngineConfig, defaultDays: number): GenerateRequest {
  const { name, ownerWallet, purpose, username, nftTokenId } = args
  const inDays = Math.floor(systemClock.now() / 1000) + (args.expiryDays ?? defaultDays) * 86_400
  const { chainId, rules, hostIpv6 } = config
  const machineId = machineIdOf({ vmName: name, chainId, nftContract: rules.nft, hostIpv6: hostIpv6 ?? '' })
  return { name, ownerWallet, purpose, username, machineId, nftTokenId, expiresAt: args.expiresAt ?? inDays }
}

function specFor(vm: Vm, args: GeneratorArgs, config: EngineConfig, template: string): VmSpec {
  const { web3, pools, chainId, rules, guestRpcUrls, nameservers } = config
  const userData = renderCloudInit(template, {
    ...{ name: vm.name, username: vm.username, machineId: vm.machineId, chainId, nftContract: rules.nft, nameservers },
    // Made anew with every VM: it opens nothing, it only makes the codes of this one.
    otpSecret: randomBytes(32),
    otpLength: web3.otpLength,
    otpTtlSeconds: web3.otpTtlSeconds,
    rpcUrls: guestRpcUrls,
    pagePort: web3.signingPagePort,
  })
  const size = config.sizeOf(0)
  return {
    name: vm.name,
    vmid: vm.vmid,
    vcpus: args.vcpus ?? size.vcpus,
    memoryMiB: args.memoryMiB ?? size.memoryMiB,
    diskGiB: args.diskGiB ?? size.diskGiB,
    mac: vm.mac,
    ipv4: { address: vm.ipv4, prefixLength: parseIpv4Prefix(pools.ipv4.network)!.length, gateway: pools.ipv4.gateway },
    ipv6: vm.ipv6 === undefined ? undefined : { address: vm.ipv6, gateway: 'fe80::1' },
    userData,
  }
}

function mintRequestFor(
  vm: Vm,
  args: GeneratorArgs,
  config: EngineConfig,
  signature: Uint8Array | undefined,
): MintRequest {
  const details = { hostname: vm.ipv6 ?? vm.ipv4, port: config.rules.sshPort, username: vm.username }
  const plaintext = new TextEncoder().encode(renderConnectionDetails(details))
  const userEncrypted = signature === undefined ? new Uint8Array() : encryptAccessData(signature, plaintext)
  const owner = args.ownerWallet as Address
  return { owner, machineId: vm.machineId, userEncrypted, publicSecret: args.publicSecret ?? '' }
}

function readSignature(path: string): Uint8Array {
  const text = readTextFile(path === '-' ? '/dev/stdin' : path, { what: 'signature', maxBytes: 1024 }).trim()
  if (/^0x[\da-f]{130}$/i.test(text)) return Uint8Array.fromHex(text.slice(2))
  throw new BlockHostError({
    code: 'BH_SIGNATURE_INVALID',
    message: `${path} holds no signature of 65 bytes (0x and 130 hex digits)`,
  })
}

function dryRun(args: GeneratorArgs, request: GenerateRequest, config: EngineConfig): Record<string, unknown> {
  const size = config.sizeOf(0)
  return {
    status: 'dry-run',
    vm_name: request.name,
    owner: request.ownerWallet,
    username: request.username,
    machine_id: request.machineId,
    expires_at: request.expiresAt,
    cpu: args.vcpus ?? size.vcpus,
    memory: args.memoryMiB ?? size.memoryMiB,
    disk: args.diskGiB ?? size.diskGiB,
    cloud_init: args.cloudInit,
    mint: args.mint,
  }
}

function resultOf(vm: Vm): Record<string, unknown> {
  return {
    status: vm.state,
    vm_name: vm.name,
    ip: vm.ipv4,
    ipv6: vm.ipv6 ?? null,
    vmid: vm.vmid,
    nft_token_id: vm.nftTokenId === undefined ? null : Number(vm.nftTokenId),
    username: vm.username,
    machine_id: vm.machineId,
    expires_at: vm.expiresAt,
  }
}

function print(result: unknown): void {
  process.stdout.write(`BLOCKHOST_RESULT: ${JSON.stringify(result)}\n`)
}
