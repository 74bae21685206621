// npm run quickstart [-- disk.qcow2]: sets everything up, makes a real Debian guest if none is given, and looks into it.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD, GUEST } from './debian-packages.mjs';
import { build, debianPackages, npmPackages, root, step } from './setup.mjs';

const given = process.argv[2];
if (given !== undefined && !existsSync(given) && !/^https?:\/\//.test(given)) {
  console.error(`quickstart: ${given}: no such file`);
  process.exit(1);
}
debianPackages(BUILD, { required: false });
if (given === undefined) debianPackages(GUEST);
npmPackages();
build();

let image = given;
if (image === undefined) {
  step('a real Debian guest: qcow2, GPT, LVM, ext4 and XFS (made once, then kept)');
  try {
    const { debianGuest } = await import('../fixtures/debian-guest.mjs');
    image = debianGuest('small', (m) => console.log(`   ${m}`));
  } catch (e) {
    console.error(`quickstart: ${e.message}`);
    process.exit(1);
  }
  console.log(`   ${image}`);
}

const show = (title, command, args, filter = (s) => s) => {
  console.log(`\n-- ${title}\n$ ${command} ${args.join(' ')}`);
  const start = process.hrtime.bigint();
  const r = spawnSync(
    process.execPath,
    [join(root, 'dist', 'bin', `${command === 'guestwright' ? 'guestwright' : command}.js`), ...args],
    { encoding: 'utf8', maxBuffer: 1 << 28 },
  );
  const ms = Number((process.hrtime.bigint() - start) / 1_000_000n);
  process.stdout.write(filter(r.stdout));
  process.stderr.write(r.stderr);
  console.log(`(${ms} ms, exit ${r.status})`);
  return r.status;
};
const first = (n) => (s) => {
  const lines = s.split('\n');
  return lines.length <= n ? s : `${lines.slice(0, n).join('\n')}\n… ${lines.length - n} more lines\n`;
};

step('looking into it: no root, no VM, no mount');
const results = [
  show('the whole stack', 'guestwright', ['stack', image]),
  show('filesystems and volumes', 'virt-filesystems', ['-a', image, '--all', '--long', '-h']),
  show('what system is it?', 'virt-inspector', ['-a', image, '--no-applications'], first(40)),
  show('a file', 'virt-cat', ['-a', image, '/etc/os-release'], first(12)),
  show('free space', 'virt-df', ['-h', '-a', image]),
  show('a directory', 'virt-ls', ['-l', '-a', image, '/'], first(30)),
];
if (results.some((s) => s !== 0)) {
  console.error(
    `\nSome of the commands failed, see above (an image without an operating system on it has nothing for virt-inspector and virt-cat).`,
  );
  process.exit(1);
}
console.log(`\nDone. Try your own image: npm run quickstart -- disk.qcow2, or put the commands on PATH: npm install -g .`);
