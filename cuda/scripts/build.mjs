// Builds the addon for this machine into build/, and with a GPU (scripts/gpu.mjs) the one that carries CUDA, too, into build-cuda/;
// or (--portable) one addon a level of the x86-64 psABI into prebuilds/. addon.ts picks at load. `cmake-js build` configures
// only when there is nothing yet; make, unlike ninja, must be told to use all cores.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { cudaPlan } from './gpu.mjs';

const room = join(import.meta.dirname, '..');
const require = createRequire(import.meta.url);
const cmakeJs = require.resolve('cmake-js/bin/cmake-js');

function run(args, hint = '') {
  const result = spawnSync(process.execPath, args, { cwd: room, stdio: 'inherit' });
  if (result.status === 0) return;
  if (hint !== '') process.stderr.write(`${hint}\n`);
  process.exit(result.status ?? 1);
}

function build(out, { definitions = [], configure = false, hint = '' } = {}) {
  const args = ['--out', out, ...definitions.map((definition) => `--CD${definition}`)];
  if (configure) run([cmakeJs, 'configure', ...args], hint);
  run([cmakeJs, 'build', '--parallel', String(availableParallelism()), ...args], hint);
}

async function buildCuda({ architectures }) {
  const out = join(room, 'build-cuda');
  const hint = 'The build with CUDA failed (see above). SPOTLIGHT_CUDA=0 builds for the CPU alone.';
  const libraries = [join(room, 'scripts/cuda.mjs'), '--runtime'];
  const toolkit =
    process.env.CUDAToolkit_ROOT ||
    process.env.CUDA_HOME ||
    existsSync('/usr/local/cuda/bin/nvcc') ||
    spawnSync('nvcc', ['--version'], { stdio: 'ignore' }).status === 0;
  // Without a toolkit everything is fetched, and then at once: the libraries lie in the same packages as their headers.
  if (!toolkit) run(libraries, hint);
  const definitions = ['SPOTLIGHT_CUDA=ON', `SPOTLIGHT_CUDA_ARCHITECTURES=${architectures}`];
  build(out, { definitions, configure: true, hint });
  const { missing } = await require(join(out, 'Release/spotlight.node')).devices();
  if (missing.some((sentence) => /^(cuBLASLt|cuDNN) /.test(sentence))) run(libraries, hint);
}

if (process.argv.includes('--portable')) {
  const target = join(room, 'prebuilds', `${process.platform}-${process.arch}`);
  mkdirSync(target, { recursive: true });
  for (const level of ['x86-64-v2', 'x86-64-v3', 'x86-64-v4']) {
    const out = join(room, `build-${level}`);
    build(out, { definitions: [`SPOTLIGHT_LEVEL=${level}`] });
    copyFileSync(join(out, 'Release', 'spotlight.node'), join(target, `spotlight.${level}.node`));
  }
} else {
  build(join(room, 'build'));
  const plan = cudaPlan();
  if (plan.wanted) await buildCuda(plan);
  // addon.ts would take one of older sources for this one.
  else rmSync(join(room, 'build-cuda/Release/spotlight.node'), { force: true });
}
