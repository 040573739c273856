import type { Machine } from './machine.ts'

/**
 * Gives a machine a /dev of its own without /dev/kvm. For tests with libvirt where /dev/kvm is there but no processor behind it (containers,
 * nested machines): libvirt 9.0 then finds its knowledge of QEMU outdated at each look and asks QEMU anew, which makes `virsh define` take
 * some 25 s in place of 50 ms. Call it before libvirtd is started.
 */
export async function hideKvm(machine: Machine): Promise<void> {
  await machine.exec('sh', ['-euc', script])
}

const script = `
new=/run/.machine/dev
mkdir -p $new
mount -t tmpfs -o mode=755 dev $new
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty $new/
mkdir $new/pts $new/shm $new/net
[ ! -e /dev/net/tun ] || cp -a /dev/net/tun $new/net/
ln -s /proc/self/fd $new/fd
ln -s /proc/self/fd/0 $new/stdin
ln -s /proc/self/fd/1 $new/stdout
ln -s /proc/self/fd/2 $new/stderr
ln -s pts/ptmx $new/ptmx
mount -t devpts -o newinstance,ptmxmode=0666 devpts $new/pts
mount -t tmpfs -o mode=1777 shm $new/shm
mount --rbind $new /dev
`
