import type { Action } from './action.ts'
import { bridgeEnsure, networkEnsure } from './bridge.ts'
import { vmDiskCreate } from './disk.ts'
import {
  vmConsole,
  vmDefine,
  vmDestroy,
  vmList,
  vmMetrics,
  vmResume,
  vmShutdown,
  vmStart,
  vmStatus,
  vmStop,
  vmSuspend,
  vmUndefine,
} from './domain.ts'
import { vmGuestExec, vmGuestPing } from './guest-agent.ts'
import { hostStatus } from './host-status.ts'
import { iptablesClose, iptablesOpen } from './knock.ts'
import { qmCreate, qmDestroy, qmImportdisk, qmSet, qmShutdown, qmStart, qmStop, qmTemplate } from './qm.ts'
import { ip6RouteAdd, ip6RouteDel } from './routes.ts'
import { vmSeedWrite } from './seed.ts'
import { virtCustomize } from './virt-customize.ts'
import { vmNetworkAdd, vmNetworkDel } from './vm-network.ts'
import { addressbookSave, generateWallet } from './wallets.ts'

/** Everything the agent does, by name: the fifteen documented actions, then those of the libvirt provisioner. */
export const actions: ReadonlyMap<string, Action> = new Map([
  ['qm-start', qmStart],
  ['qm-stop', qmStop],
  ['qm-shutdown', qmShutdown],
  ['qm-destroy', qmDestroy],
  ['qm-create', qmCreate],
  ['qm-importdisk', qmImportdisk],
  ['qm-set', qmSet],
  ['qm-template', qmTemplate],
  ['ip6-route-add', ip6RouteAdd],
  ['ip6-route-del', ip6RouteDel],
  ['iptables-open', iptablesOpen],
  ['iptables-close', iptablesClose],
  ['virt-customize', virtCustomize],
  ['generate-wallet', generateWallet],
  ['addressbook-save', addressbookSave],
  ['vm-disk-create', vmDiskCreate],
  ['vm-seed-write', vmSeedWrite],
  ['vm-define', vmDefine],
  ['vm-undefine', vmUndefine],
  ['vm-start', vmStart],
  ['vm-stop', vmStop],
  ['vm-shutdown', vmShutdown],
  ['vm-suspend', vmSuspend],
  ['vm-resume', vmResume],
  ['vm-destroy', vmDestroy],
  ['vm-status', vmStatus],
  ['vm-list', vmList],
  ['vm-metrics', vmMetrics],
  ['vm-console', vmConsole],
  ['vm-guest-exec', vmGuestExec],
  ['vm-guest-ping', vmGuestPing],
  ['vm-network-add', vmNetworkAdd],
  ['vm-network-del', vmNetworkDel],
  ['bridge-ensure', bridgeEnsure],
  ['network-ensure', networkEnsure],
  ['host-status', hostStatus],
])
