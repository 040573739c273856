/** `vm-generator`: argv, environment and wiring. */
import { randomBytes } from 'node:crypto'
import type { Address } from '@blockhost/chain/hex.ts'
import { machineIdOf } from '@blockhost/crypto/signed-message.ts'
import { sealConnection } from '@blockhost/engine/access.ts'
import { type EngineConfig, readEngineConfig } from '@blockhost/engine/config.ts'
import type { MintRequest } from '@blockhost/engine/mint-call.ts'
import { vmSpecOf } from '@blockhost/engine/vm-spec.ts'
import type { PlanSize } from '@blockhost/hostconfig/blockhost-config.ts'
import { configFolder, readConfigFile } from '@blockhost/hostconfig/config-folder.ts'
import { dbConfigFile } from '@blockhost/hostconfig/db-config.ts'
import { readCloudInitTemplate } from '@blockhost/image/cloud-init.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError, describeError, errorToJson, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { openMinter } from '@blockhost/mint-nft/minter.ts'
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
  const size = { ...config.sizeOf(0), ...given(args) }
  // The secret is made anew with every VM: it opens nothing, it only makes the codes of this one.
  return vmSpecOf(config, vm, { template, otpSecret: randomBytes(32), size })
}

/** The sizes that the command line names. */
function given({ vcpus, memoryMiB, diskGiB }: GeneratorArgs): Partial<PlanSize> {
  return {
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(memoryMiB === undefined ? {} : { memoryMiB }),
    ...(diskGiB === undefined ? {} : { diskGiB }),
  }
}

function mintRequestFor(
  vm: Vm,
  args: GeneratorArgs,
  config: EngineConfig,
  signature: Uint8Array | undefined,
): MintRequest {
  const details = { hostname: vm.ipv6 ?? vm.ipv4, port: config.rules.sshPort, username: vm.username }
  const publicSecret = args.publicSecret ?? ''
  const userEncrypted =
    signature === undefined ? new Uint8Array() : sealConnection({ signature, publicSecret }, details)
  return { owner: args.ownerWallet as Address, machineId: vm.machineId, userEncrypted, publicSecret }
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
  const { vcpus, memoryMiB, diskGiB } = { ...config.sizeOf(0), ...given(args) }
  return {
    status: 'dry-run',
    vm_name: request.name,
    owner: request.ownerWallet,
    username: request.username,
    machine_id: request.machineId,
    expires_at: request.expiresAt,
    cpu: vcpus,
    memory: memoryMiB,
    disk: diskGiB,
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
