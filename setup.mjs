// Sets everything up in a clone: system tools named first, then npm packages, protos, native module, TypeScript, default model.
// Every step tells by itself whether it has work, so a second run takes seconds; the native build runs beside TypeScript and the model.
// With a GPU (or SPOTLIGHT_CUDA=1) the native module carries CUDA: what compiles it comes as packages if no toolkit is there.
// Plain Node without packages, and without syntax of newer versions: it must run before anything is installed to say what is missing.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  createWriteStream,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cudaPlan } from './cuda/scripts/gpu.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const state = join(root, '.setup');
const NODE = [20, 20];
const DISK_BYTES = 3e9;
const started = Date.now();

const say = (line) => process.stdout.write(`${line}\n`);
const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

class SetupError extends Error {}

// --- System tools ---------------------------------------------------------------------------------------------------

const works = (command, args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** Each tool: what to call it, whether it is there, the Debian packages that bring it. */
const TOOLS = [
  { name: 'git', there: () => works('git', ['--version']), packages: ['git'] },
  { name: 'g++', there: () => works('g++', ['--version']), packages: ['g++'] },
  { name: 'cmake', there: () => works('cmake', ['--version']), packages: ['cmake'] },
  {
    name: 'make or ninja',
    there: () => works('make', ['--version']) || works('ninja', ['--version']),
    packages: ['make'],
  },
  { name: 'python3', there: () => works('python3', ['--version']), packages: ['python3'] },
  {
    name: 'pip for python3',
    there: () => works('python3', ['-m', 'pip', '--version']),
    packages: ['python3-pip'],
  },
];

function checkTools() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const problems = [];
  if (major < NODE[0] || (major === NODE[0] && minor < NODE[1])) {
    problems.push(
      `Node ${NODE.join('.')} or newer is needed, this is ${process.versions.node}: install it from https://nodejs.org/en/download`,
    );
  }
  if (!works('npm', ['--version']))
    problems.push('npm is not on the PATH: it comes with Node, reinstall Node with it');
  const missing = TOOLS.filter((tool) => !tool.there());
  if (missing.length > 0) {
    const sudo = process.getuid && process.getuid() !== 0 ? 'sudo ' : '';
    const packages = [...new Set(missing.flatMap((tool) => tool.packages))].join(' ');
    problems.push(
      `missing: ${missing.map((tool) => tool.name).join(', ')}. Install with:\n    ${sudo}apt-get install -y ${packages}`,
    );
  }
  if (problems.length > 0) throw new SetupError(problems.join('\n  '));
  const disk = statfsSync(root);
  const free = disk.bavail * disk.bsize;
  if (free < DISK_BYTES && !existsSync(join(root, 'node_modules'))) {
    throw new SetupError(
      `${(free / 1e9).toFixed(1)} GB free in ${root}, ${DISK_BYTES / 1e9} GB are needed: make room and run again`,
    );
  }
}

// --- One set-up at a time -------------------------------------------------------------------------------------------

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** The process that holds the lock, or 0 when it was released a moment ago. */
function lockOwner(lock) {
  try {
    return Number(readFileSync(lock, 'utf8'));
  } catch {
    return 0;
  }
}

/** Takes .setup/lock, waiting for another set-up of this clone; a lock whose process is gone is taken over. */
async function takeLock() {
  mkdirSync(state, { recursive: true });
  const lock = join(state, 'lock');
  for (let told = false; ;) {
    try {
      // Written first and linked into place, so that a lock is never seen without its owner's number.
      const own = `${lock}.${process.pid}`;
      writeFileSync(own, String(process.pid));
      try {
        linkSync(own, lock);
      } finally {
        rmSync(own);
      }
      process.on('exit', () => rmSync(lock, { force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const owner = lockOwner(lock);
    if (owner > 0 && !alive(owner)) rmSync(lock, { force: true });
    else {
      if (!told) say(`set-up is already running (process ${owner}), waiting for it`);
      told = true;
      await sleep(500);
    }
  }
}

// --- Steps ----------------------------------------------------------------------------------------------------------

const children = new Set();

/** A step is a process group: npm does not hand signals on to the compilers it started. */
function stopSteps() {
  for (const child of children) {
    try {
      process.kill(-child.pid, 'SIGTERM');
    } catch {
      // Gone already.
    }
  }
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    stopSteps();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  });
}

/** Runs one step with its output in .setup/<name>.log; says start and end, its last line every 5 s, and the log's end when it fails. */
async function step(name, what, command, args) {
  const since = Date.now();
  say(`  ${what} ...`);
  const logFile = join(state, `${name}.log`);
  const log = createWriteStream(logFile);
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  children.add(child);
  let lastLine = '';
  let shown = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      log.write(data);
      lastLine =
        String(data)
          .trimEnd()
          .split(/[\r\n]/)
          .pop() || lastLine;
    });
  }
  const beat = setInterval(() => {
    if (lastLine !== shown) say(`    ${what}, ${seconds(since)}: ${lastLine.slice(0, 100)}`);
    shown = lastLine;
  }, 5000);
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  }).finally(() => {
    clearInterval(beat);
    children.delete(child);
    log.end();
  });
  if (code !== 0) {
    const tail = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-40).join('\n');
    throw new SetupError(`${what} failed (exit ${code}); the end of ${logFile}:\n${tail}`);
  }
  say(`  ${what}: done in ${seconds(since)}`);
}

/** Whether node_modules holds exactly what the lock file says, by the record npm keeps of the tree it installed. */
function packagesMatch() {
  const record = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(record)) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages;
  return Object.entries(wanted)
    .filter(([path, entry]) => path.includes('node_modules/') && !entry.optional)
    .every(([path, entry]) => {
      const found = installed[path];
      return found !== undefined && (entry.link ? found.link === true : found.version === entry.version);
    });
}

/** SHA-256 over the native module's sources, what builds them (all in cuda/ but TypeScript, notes and build output) and for which GPUs. */
function nativeDigest(cuda) {
  const hash = createHash('sha256').update(process.versions.modules).update(JSON.stringify(cuda));
  const visit = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const path = join(folder, entry.name);
      if (/^(node_modules|dist|build[^.]*|\..*)$|\.(ts|md|tsbuildinfo)$/.test(entry.name)) continue;
      if (entry.isDirectory()) visit(path);
      else hash.update(path.slice(root.length)).update(readFileSync(path));
    }
  };
  visit(join(root, 'cuda'));
  return hash.digest('hex');
}

function nativeBuilt(folder) {
  if (!existsSync(folder)) return false;
  return readdirSync(folder, { recursive: true }).some((path) => String(path).endsWith('.node'));
}

async function buildNative() {
  const stamp = join(state, 'native.stamp');
  const cuda = cudaPlan();
  const digest = nativeDigest(cuda);
  const folders = ['cuda/build', ...(cuda.wanted ? ['cuda/build-cuda'] : [])];
  const built = folders.every((folder) => nativeBuilt(join(root, folder)));
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest && built) return;
  const what = cuda.wanted ? 'native module with CUDA' : 'native module';
  await step('native', what, 'npm', ['run', 'build', '-w', 'cuda']);
  writeFileSync(stamp, digest);
}

async function buildTypeScriptAndFetchModel() {
  await step('typescript', 'TypeScript', process.execPath, ['node_modules/typescript/bin/tsc', '-b']);
  await step('model', 'default model', process.execPath, ['worker/dist/models/fetch.js']);
}

async function setUp() {
  checkTools();
  await takeLock();
  say('Setting up Spotlight Serve');
  if (!packagesMatch()) await step('packages', 'npm packages', 'npm', ['ci']);
  await step('proto', 'protos', process.execPath, ['proto/generate.mjs']);
  try {
    await Promise.all([buildNative(), buildTypeScriptAndFetchModel()]);
  } catch (error) {
    stopSteps();
    throw error;
  }
  say(`Set up in ${seconds(started)}`);
}

setUp().catch((error) => {
  process.stderr.write(`set-up: ${error instanceof SetupError ? error.message : error.stack}\n`);
  process.exitCode = 1;
});
