import type { QemuUser } from './qemu-user.ts'

/** What a domain is rendered from. Everything has been checked; texts are escaped all the same. */
export type DomainSpec = {
  readonly name: string
  readonly uuid: string
  readonly vcpus: number
  readonly memoryMiB: number
  readonly mac: string
  readonly bridge: string
  readonly tap: string
  readonly disk: string
  readonly diskCache: 'none' | 'writeback' | 'unsafe'
  readonly seed: string
  readonly console: string
  readonly accelerator: 'kvm' | 'qemu'
  readonly architecture: 'x86_64' | 'aarch64'
  /** Who QEMU runs as, with the files as they are; `undefined`: libvirt decides, and gives the files to whom it decided on. */
  readonly qemuUser: QemuUser | undefined
  /** Boots this kernel directly; `undefined`: the disk's boot loader. */
  readonly kernel: { readonly kernel: string; readonly initrd: string; readonly cmdline: string } | undefined
}

/**
 * Renders a libvirt domain (libvirt.org/formatdomain): virtio disk, network and entropy, the seed as a read-only disk, QEMU's guest
 * agent, and a serial console whose output virtlogd keeps in a file.
 */
export function renderDomain(spec: DomainSpec): string {
  const io = spec.diskCache === 'none' ? ' io="native"' : ''
  return `<domain type="${spec.accelerator}">
  <name>${escapeXml(spec.name)}</name>
  <uuid>${spec.uuid}</uuid>
  <memory unit="MiB">${spec.memoryMiB}</memory>
  <vcpu>${spec.vcpus}</vcpu>
${renderBoot(spec)}${renderCpu(spec)}
  <clock offset="utc"/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>restart</on_crash>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="${spec.diskCache}"${io} discard="unmap"/>
      <source file="${escapeXml(spec.disk)}"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw"/>
      <source file="${escapeXml(spec.seed)}"/>
      <target dev="vdb" bus="virtio"/>
      <readonly/>
    </disk>
    <interface type="bridge">
      <mac address="${spec.mac}"/>
      <source bridge="${escapeXml(spec.bridge)}"/>
      <target dev="${spec.tap}"/>
      <model type="virtio"/>
      <port isolated="yes"/>
    </interface>
    <serial type="pty">
      <log file="${escapeXml(spec.console)}" append="on"/>
      <target port="0"/>
    </serial>
    <console type="pty">
      <target type="serial" port="0"/>
    </console>
    <channel type="unix">
      <target type="virtio" name="org.qemu.guest_agent.0"/>
    </channel>
    <rng model="virtio">
      <backend model="random">/dev/urandom</backend>
    </rng>
    <memballoon model="virtio">
      <stats period="10"/>
    </memballoon>
  </devices>
${renderOwner(spec)}</domain>
`
}

/** `relabel="no"`: libvirt changes no owners. */
function renderOwner({ qemuUser }: DomainSpec): string {
  if (qemuUser === undefined) return ''
  const label = `+${qemuUser.uid}:+${qemuUser.gid}`
  return `  <seclabel type="static" model="dac" relabel="no">\n    <label>${label}</label>\n  </seclabel>\n`
}

function renderBoot({ architecture, kernel }: DomainSpec): string {
  const [arch, machine, firmware] =
    architecture === 'x86_64' ? ['x86_64', 'q35', ''] : ['aarch64', 'virt', ' firmware="efi"']
  const boot =
    kernel === undefined
      ? '    <boot dev="hd"/>\n'
      : `    <kernel>${escapeXml(kernel.kernel)}</kernel>
    <initrd>${escapeXml(kernel.initrd)}</initrd>
    <cmdline>${escapeXml(kernel.cmdline)}</cmdline>
`
  return `  <os${kernel === undefined ? firmware : ''}>
    <type arch="${arch}" machine="${machine}">hvm</type>
${boot}  </os>
`
}

/** On x86 ACPI powers a guest off and APIC spreads its interrupts; ARM has its own ways. */
function renderCpu({ accelerator, architecture }: DomainSpec): string {
  const features = architecture === 'x86_64' ? '<acpi/><apic/>' : '<gic version="3"/>'
  return `  <features>${features}</features>
  ${accelerator === 'kvm' ? '<cpu mode="host-passthrough"/>' : emulatedCpu[architecture]}`
}

/**
 * What is emulated. On x86 without AVX: programs choose it where it is there, and QEMU is slower at it than at SSE (a start of Node took
 * 7 s with it, 4 s without).
 */
const emulatedCpu = {
  x86_64: '<cpu mode="maximum"><feature policy="disable" name="avx"/><feature policy="disable" name="avx2"/></cpu>',
  aarch64: '<cpu mode="maximum"/>',
}

function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}
