// Builds the addon for this machine into build/, or (--portable) one addon a level of the x86-64 psABI into prebuilds/, from which
// addon.ts picks at load. `cmake-js build` configures when there is nothing yet; make, unlike ninja, must be told to use all cores.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

const room = join(import.meta.dirname, '..');
const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');

function build(out, definitions = []) {
  const args = [cmakeJs, 'build', '--out', out, '--parallel', String(availableParallelism())];
  const result = spawnSync(
    process.execPath,
    [...args, ...definitions.map((definition) => `--CD${definition}`)],
    {
      cwd: room,
      stdio: 'inherit',
    },
  );
  if (result.status !== 0) process.exit(result.status ?? 1);
}

if (process.argv.includes('--portable')) {
  const target = join(room, 'prebuilds', `${process.platform}-${process.arch}`);
  mkdirSync(target, { recursive: true });
  for (const level of ['x86-64-v2', 'x86-64-v3', 'x86-64-v4']) {
    const out = join(room, `build-${level}`);
    build(out, [`SPOTLIGHT_LEVEL=${level}`]);
    copyFileSync(join(out, 'Release', 'spotlight.node'), join(target, `spotlight.${level}.node`));
  }
} else {
  build(join(room, 'build'));
}
