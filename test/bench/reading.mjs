// The reading tools on a large Debian guest, against libguestfs (TCG) and against Node's own start.
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { debianGuest } from '../../fixtures/debian-guest.mjs';
import { debianPackages } from '../../scripts/setup.mjs';
import { head, once, row, sideBySide } from './measure.mjs';

const BIN = resolve(import.meta.dirname, '../../dist/bin');
const ours =
  (name, ...args) =>
  () =>
    once(process.execPath, [join(BIN, `${name}.js`), ...args]);

export async function bench() {
  const image = debianGuest('large', (m) => console.log(`  ${m}`));
  // libguestfs needs a kernel to build its appliance from; forced to TCG, as on a machine without KVM.
  const peer =
    debianPackages(['libguestfs-tools', 'guestfs-tools', 'qemu-system-x86', 'linux-image-amd64', 'supermin', 'time'], {
      required: false,
    }) && spawnSync('virt-cat', ['--version']).status === 0;
  const env = { ...process.env, LIBGUESTFS_BACKEND: 'direct', LIBGUESTFS_BACKEND_SETTINGS: 'force_tcg' };
  const theirs = (name, ...args) => (peer ? () => once(`/usr/bin/${name}`, args, { env }) : undefined);
  head(`Reading ${image}: against \`node -e 0\` (wanted: at most 3 x its time, so a ratio of at least 0.33)`);
  row(
    'virt-cat /etc/os-release',
    sideBySide(ours('virt-cat', '-a', image, '/etc/os-release'), () => once(process.execPath, ['-e', '0']), { runs: 9 }),
    0.33,
  );
  head(`Reading the same: against libguestfs${peer ? ' (TCG)' : ' (not installed: only our own times)'}`);
  const pairs = [
    ['virt-cat /etc/os-release', 'virt-cat', ['-a', image, '/etc/os-release'], 100],
    ['virt-ls -lR /usr', 'virt-ls', ['-lR', '-a', image, '/usr'], 50],
    ['virt-df', 'virt-df', ['-a', image], 50],
    ['virt-filesystems --all --long', 'virt-filesystems', ['-a', image, '--all', '--long'], 50],
    ['virt-inspector', 'virt-inspector', ['-a', image], 50],
    ['virt-tar-out /usr', 'virt-tar-out', ['-a', image, '/usr', '-'], 10],
  ];
  // One run of a peer that takes half a minute says enough.
  for (const [what, name, args, wanted] of pairs)
    row(what, sideBySide(ours(name, ...args), theirs(name, ...args), { runs: 3, peerRuns: 1 }), wanted);
}
