// Runs every test of the project: set-up, native tests (ctest), whether the CUDA sources compile, each room's unit tests, then what crosses
// rooms; ends with `N passed, N failed`. With --gpu: those that need a GPU, which must then be there.
// A suite that is missing, crashes, hangs or finds no test counts as failed: silence is never success. Suites and their tests are
// found from the sources, not from dist/, so neither a stale build output nor a file that did not compile can go unnoticed.
//   node test/run.mjs [--check] [--gpu] [--only SUITE]...     --check runs `npm run check` first and counts it as one test
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';

const root = join(import.meta.dirname, '..');
const scratch = mkdtempSync(join(tmpdir(), 'spotlight-test-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

const SUITE_LIMIT_MS = 20 * 60_000;
const EXIT_GRACE_MS = 30_000;
const ROOMS = [
  { name: 'proto', source: 'proto', dist: 'proto/dist' },
  { name: 'cuda', source: 'cuda', dist: 'cuda/dist' },
  { name: 'worker', source: 'worker/src', dist: 'worker/dist' },
  { name: 'control-plane', source: 'control-plane/src', dist: 'control-plane/dist' },
  { name: 'test', source: 'test', dist: 'test/dist' },
];

const { values: flags } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    gpu: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true, default: [] },
  },
});

const total = { passed: 0, failed: [], skipped: [] };
const say = (line) => process.stdout.write(`${line}\n`);
const fail = (suite, message) => total.failed.push({ suite, title: suite, message });

/**
 * Runs a command in its own process group with its output shown. Resolves with the exit status, or null when it had to be killed.
 * `settled` tells that the command has done its work: from then on it has EXIT_GRACE_MS to end.
 */
function run(command, args, { env = {}, settled = () => false } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...env },
      detached: true,
    });
    const start = Date.now();
    let settledAt;
    let killed = false;
    const killGroup = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // The group is already gone.
      }
    };
    const stop = (signal) => {
      killGroup(signal);
      process.exit(1);
    };
    process.once('SIGINT', stop);
    process.once('SIGTERM', stop);
    const watch = setInterval(() => {
      if (settledAt === undefined && settled()) settledAt = Date.now();
      if (
        Date.now() - start > SUITE_LIMIT_MS ||
        (settledAt !== undefined && Date.now() - settledAt > EXIT_GRACE_MS)
      ) {
        killed = true;
        killGroup('SIGKILL');
      }
    }, 250);
    child.on('error', () => resolve(127));
    child.on('exit', (code) => {
      clearInterval(watch);
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
      killGroup('SIGKILL');
      resolve(killed ? null : (code ?? 1));
    });
  });
}

function filesUnder(folder, matches) {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => !/^(node_modules|dist|gen|build[^.]*|\..*)$/.test(entry.name))
    .flatMap((entry) => {
      const path = `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesUnder(path, matches) : matches(path) ? [path] : [];
    })
    .sort();
}

const needsGpu = (path) => path.startsWith('test/gpu/');

async function runRoom({ name, source, dist }) {
  const sources = filesUnder(source, (path) => path.endsWith('.test.ts') && needsGpu(path) === flags.gpu);
  if (sources.length === 0) {
    if (!flags.gpu) fail(name, 'no test file (*.test.ts) found');
    return;
  }
  const built = sources.map((path) => join(dist, relative(source, path)).replace(/\.ts$/, '.js'));
  for (const path of built.filter((file) => !existsSync(join(root, file))))
    fail(name, `${path} was not built`);
  const outcomeFile = join(scratch, `${name}.json`);
  const mocha = [
    'node_modules/mocha/bin/mocha.js',
    '--reporter',
    'test/reporter.cjs',
    ...built.filter((file) => existsSync(join(root, file))),
  ];
  const code = await run(process.execPath, mocha, {
    env: { SPOTLIGHT_TEST_OUTCOME: outcomeFile },
    settled: () => existsSync(outcomeFile),
  });
  if (!existsSync(outcomeFile)) {
    fail(
      name,
      code === null
        ? `did not end within ${SUITE_LIMIT_MS / 60_000} minutes`
        : `mocha ended with status ${code} before its last test`,
    );
    return;
  }
  const outcome = JSON.parse(readFileSync(outcomeFile, 'utf8'));
  total.passed += outcome.passed;
  total.failed.push(...outcome.failed.map((test) => ({ suite: name, ...test })));
  total.skipped.push(...outcome.skipped.map((test) => ({ suite: name, ...test })));
  if (code === null) fail(name, 'did not exit after its last test: something keeps the event loop alive');
  else if (code !== 0 && outcome.failed.length === 0) fail(name, `mocha ended with status ${code}`);
}

const attribute = (tag, key) => new RegExp(`\\b${key}="([^"]*)"`).exec(tag)?.[1] ?? '';

async function runNative() {
  const folder = flags.gpu ? 'cuda/build-cuda' : 'cuda/build';
  const built = await run('cmake', [
    '--build',
    folder,
    '--target',
    flags.gpu ? 'cuda_tests' : 'native_tests',
  ]);
  if (built !== 0) {
    fail('native', `the native tests did not build (status ${built})`);
    return;
  }
  const junit = join(scratch, 'native.xml');
  const labels = flags.gpu ? ['-L', 'gpu'] : ['-LE', 'gpu'];
  const code = await run(
    'ctest',
    ['--test-dir', folder, '--output-on-failure', '--output-junit', junit, ...labels],
    { env: flags.gpu ? { SPOTLIGHT_REQUIRE_GPU: '1' } : {} },
  );
  if (!existsSync(junit)) {
    fail('native', `ctest ended with status ${code} and no result`);
    return;
  }
  const cases = [...readFileSync(junit, 'utf8').matchAll(/<testcase\b([^>]*)>(.*?)<\/testcase>/gs)].map(
    ([, attributes, body]) => ({
      title: attribute(attributes, 'name'),
      status: attribute(attributes, 'status'),
      // A test that skips itself ends with the SKIP_RETURN_CODE it declares; any other "notrun" is a test that could not start.
      notRun: attribute(/<skipped\b[^>]*>/.exec(body)?.[0] ?? '', 'message'),
      lastLine: (/<system-out>(.*?)<\/system-out>/s.exec(body)?.[1] ?? '').trim().split('\n').pop(),
    }),
  );
  if (cases.length === 0) fail('native', 'ctest found no test');
  const failedBefore = total.failed.length;
  for (const { title, status, notRun, lastLine } of cases) {
    if (status === 'run') total.passed += 1;
    else if (notRun.startsWith('SKIP_')) total.skipped.push({ suite: 'native', title, reason: lastLine });
    else total.failed.push({ suite: 'native', title, message: notRun || `status ${status}` });
  }
  if (code !== 0 && total.failed.length === failedBefore) fail('native', `ctest ended with status ${code}`);
}

/** Compiles every CUDA source, test and bench for Hopper, links and runs none: one test. It needs no GPU and no toolkit. */
async function runCudaCompile() {
  const folder = 'cuda/build-cuda-compile';
  const definitions = ['-DSPOTLIGHT_CUDA=ON', '-DSPOTLIGHT_CUDA_ARCHITECTURES=90a-real'];
  const steps = [
    ['-S', 'cuda', '-B', folder, ...definitions],
    ['--build', folder, '--target', 'cuda_objects', '--parallel', String(availableParallelism())],
  ];
  for (const step of steps) {
    const code = await run('cmake', step);
    if (code !== 0) {
      fail('cuda-compile', `cmake ${step[0]} ended with status ${code}`);
      return;
    }
  }
  total.passed += 1;
}

async function runCheck() {
  const code = await run('npm', ['run', 'check']);
  if (code === 0) total.passed += 1;
  else fail('check', `npm run check ended with status ${code}`);
}

const suites = [
  ...(flags.check ? [{ name: 'check', run: runCheck }] : []),
  { name: 'native', run: runNative },
  ...(flags.gpu ? [] : [{ name: 'cuda-compile', run: runCudaCompile }]),
  ...ROOMS.map((room) => ({ name: room.name, run: () => runRoom(room) })),
];

for (const name of flags.only) {
  if (!suites.some((suite) => suite.name === name))
    fail('--only', `there is no suite "${name}"; there are ${suites.map((suite) => suite.name).join(', ')}`);
}

if (total.failed.length > 0) say('no test was run');
else if (
  (await run(process.execPath, ['setup.mjs'], { env: flags.gpu ? { SPOTLIGHT_CUDA: '1' } : {} })) !== 0
)
  fail('set-up', 'node setup.mjs failed, no test was run');
else {
  for (const suite of suites) {
    if (flags.only.length > 0 && !flags.only.includes(suite.name)) continue;
    say(`\n=== ${suite.name}`);
    await suite.run();
  }
}

say('');
for (const { suite, title, reason } of total.skipped)
  say(`skipped: [${suite}] ${title}: ${reason || 'no reason given'}`);
for (const { suite, title, message } of total.failed)
  say(`failed: [${suite}] ${title}: ${message.split('\n')[0]}`);
say(`${total.passed} passed, ${total.failed.length} failed`);
process.exitCode = total.failed.length > 0 || total.passed === 0 ? 1 : 0;
