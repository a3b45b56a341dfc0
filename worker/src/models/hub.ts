// Models of the Hugging Face hub, in the cache by repository and commit. A cut transfer goes on where it stopped (Range);
// a file counts only when its hash is the one the hub lists: SHA-256 for large files, the git blob id for small ones.
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ListFileEntry } from '@huggingface/hub';
import { downloadFile, HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { checkSpace, fileSize, megabytes, putInPlace, withLock } from './cache-folder.js';
import { asModelError, ModelError } from './model-error.js';
import type { Say } from './progress.js';
import { Progress } from './progress.js';

const ATTEMPTS = 5;

/** Small files that belong to a model folder, beside its weights. */
const COMPANIONS: ReadonlySet<string> = new Set([
  'config.json',
  'generation_config.json',
  'model.safetensors.index.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
]);

export interface HubModel {
  /** "org/name". */
  readonly repo: string;
  readonly revision: string;
  /** One GGUF file of the repository; undefined takes its safetensors. */
  readonly file: string | undefined;
}

export interface HubOptions {
  readonly cache: string;
  readonly hubUrl: string;
  readonly token: string | undefined;
  readonly say: Say;
  /** First wait between attempts, ms; doubles. */
  readonly retryMs?: number;
}

interface Access {
  readonly hubUrl: string;
  readonly accessToken?: string;
}

/** `org/name[@revision][:file.gguf]`; undefined when the text is no hub id. */
export function parseHubModel(spec: string): HubModel | undefined {
  const match = /^([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?(?::(.+\.gguf))?$/.exec(spec);
  if (match?.[1] === undefined) return undefined;
  return { repo: match[1], revision: match[2] ?? 'main', file: match[3] };
}

/** [async] Folder that holds the model's files, or the GGUF file itself. @throws ModelError */
export async function fetchHubModel(model: HubModel, options: HubOptions): Promise<string> {
  const home = join(options.cache, 'hub', model.repo.replace('/', '--'));
  const ref = join(
    home,
    `ref-${encodeURIComponent(model.revision)}-${encodeURIComponent(model.file ?? 'folder')}`,
  );
  const result = (commit: string): string =>
    join(home, commit, ...(model.file === undefined ? [] : [model.file]));
  const access: Access = {
    hubUrl: options.hubUrl,
    ...(options.token === undefined ? {} : { accessToken: options.token }),
  };
  try {
    await mkdir(home, { recursive: true });
    return await withLock(
      join(home, 'lock'),
      (pid) => {
        options.say(`process ${pid} is fetching ${model.repo}, waiting for it`);
      },
      async () => {
        const commit = await retrying(options, () => commitOf(model, access));
        if ((await readRef(ref)) === commit) return result(commit);
        await fetchFiles(model, commit, join(home, commit), access, options);
        // Last: a ref that exists names a commit whose files are all there.
        await writeFile(ref, commit);
        return result(commit);
      },
    );
  } catch (error) {
    const explained = explain(asModelError(error, options.cache), model, options);
    const cached = await readRef(ref);
    if (cached === undefined || !(explained instanceof ModelError) || explained.code !== 'UNREACHABLE')
      throw explained;
    options.say(`the hub cannot be reached, serving ${model.repo} at ${cached} from the cache`);
    return result(cached);
  }
}

async function readRef(path: string): Promise<string | undefined> {
  return (await fileSize(path)) === undefined ? undefined : readFile(path, 'utf8');
}

async function commitOf(model: HubModel, access: Access): Promise<string> {
  const info = await modelInfo({
    name: model.repo,
    revision: model.revision,
    additionalFields: ['sha'],
    ...access,
  });
  return info.sha;
}

async function fetchFiles(
  model: HubModel,
  commit: string,
  folder: string,
  access: Access,
  options: HubOptions,
): Promise<void> {
  const entries = await retrying(options, async () => {
    const listed: ListFileEntry[] = [];
    for await (const entry of listFiles({ repo: model.repo, revision: commit, recursive: true, ...access }))
      listed.push(entry);
    return listed;
  });
  const files = choose(model, entries);
  await mkdir(folder, { recursive: true });
  const missing: ListFileEntry[] = [];
  for (const file of files) {
    if ((await fileSize(join(folder, file.path))) !== sizeOf(file)) missing.push(file);
  }
  const bytes = missing.reduce((sum, file) => sum + sizeOf(file), 0);
  await checkSpace(folder, bytes);
  options.say(
    `fetching ${model.repo} at ${commit.slice(0, 12)}: ${missing.length} files, ${megabytes(bytes)}`,
  );
  for (const file of missing) await fetchFile(model, commit, file, join(folder, file.path), access, options);
}

function sizeOf(file: ListFileEntry): number {
  return file.lfs?.size ?? file.size;
}

/** The files a model needs. Pure. @throws ModelError NOT_FOUND saying what the repository has instead */
export function choose(model: HubModel, entries: readonly ListFileEntry[]): readonly ListFileEntry[] {
  const files = entries.filter((entry) => entry.type === 'file');
  const ggufs = files.map((file) => file.path).filter((path) => path.endsWith('.gguf'));
  if (model.file !== undefined) {
    const found = files.filter((file) => file.path === model.file);
    if (found.length > 0) return found;
    throw new ModelError(
      'NOT_FOUND',
      `${model.repo} has no file ${model.file}; its GGUF files: ${ggufs.join(', ') || 'none'}`,
    );
  }
  const weights = files.filter(({ path }) => path.endsWith('.safetensors') && !path.includes('/'));
  // Some repositories hold the weights twice; model*.safetensors is the form that config.json describes.
  const named = weights.filter(({ path }) => path.startsWith('model'));
  if (weights.length === 0) {
    throw new ModelError(
      'NOT_FOUND',
      ggufs.length > 0
        ? `${model.repo} has no safetensors weights: choose a GGUF file as ${model.repo}:FILE, one of ${ggufs.join(', ')}`
        : `${model.repo} has neither safetensors nor GGUF weights`,
    );
  }
  return [...files.filter(({ path }) => COMPANIONS.has(path)), ...(named.length > 0 ? named : weights)];
}

async function fetchFile(
  model: HubModel,
  commit: string,
  file: ListFileEntry,
  path: string,
  access: Access,
  options: HubOptions,
): Promise<void> {
  const size = sizeOf(file);
  // Named by content: what an earlier run left can only be a beginning of the same file.
  const part = `${path}.${(file.lfs?.oid ?? file.oid ?? commit).slice(0, 16)}.part`;
  await mkdir(dirname(path), { recursive: true });
  const progress = new Progress(file.path, size, options.say);
  await retrying(options, async () => {
    const have = (await fileSize(part)) ?? 0;
    if (have >= size) return;
    if (have > 0) options.say(`${file.path}: going on at ${megabytes(have)}`);
    const blob = await downloadFile({ repo: model.repo, path: file.path, revision: commit, ...access });
    if (blob === null)
      throw new ModelError('NOT_FOUND', `${model.repo} has no file ${file.path} at ${commit}`);
    let done = have;
    const body = Readable.fromWeb((have === 0 ? blob : blob.slice(have, size)).stream());
    body.on('data', (chunk: Uint8Array) => {
      progress.at((done += chunk.length));
    });
    await pipeline(body, createWriteStream(part, { flags: 'a' }));
    // More than all: the server ignored the range and began again.
    if (done > size) await rm(part);
    if (done !== size) throw new Error(`connection closed after ${done} of ${size} bytes`);
  });
  if (size === 0) await writeFile(part, '');
  const [expected, actual] = await hashes(file, part, size);
  if (expected !== undefined && expected !== actual) {
    await rm(part);
    throw new ModelError(
      'HASH_MISMATCH',
      `${file.path} of ${model.repo} has hash ${actual}, the hub lists ${expected}: start again, or check the mirror`,
    );
  }
  await putInPlace(part, path);
}

async function hashes(
  file: ListFileEntry,
  path: string,
  size: number,
): Promise<[string | undefined, string]> {
  const hash = file.lfs === undefined ? createHash('sha1').update(`blob ${size}\0`) : createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), hash);
  return [file.lfs?.oid ?? file.oid, hash.digest('hex')];
}

/** Tries again what may pass by itself: a cut connection, 429, 5xx. */
async function retrying<T>(options: HubOptions, attempt: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (error) {
      const final =
        error instanceof ModelError ||
        (error instanceof HubApiError && error.statusCode < 500 && error.statusCode !== 429) ||
        (error as NodeJS.ErrnoException).code === 'ENOSPC';
      if (final || tried === ATTEMPTS) throw error;
      options.say(`${messageOf(error)}; trying again (${tried} of ${ATTEMPTS - 1})`);
      await sleep((options.retryMs ?? 500) * 2 ** (tried - 1));
    }
  }
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return `${error.message}${cause}`;
}

function explain(error: unknown, model: HubModel, options: HubOptions): unknown {
  if (error instanceof ModelError || (error instanceof Error && 'syscall' in error && 'path' in error))
    return error;
  const at = `${options.hubUrl}/${model.repo}`;
  if (error instanceof HubApiError && error.statusCode < 500 && error.statusCode !== 429) {
    const { statusCode } = error;
    if (statusCode === 404) {
      return new ModelError('NOT_FOUND', `${at} has no model, or no revision ${model.revision}`, {
        cause: error,
      });
    }
    const gated = statusCode === 401 || statusCode === 403;
    return new ModelError(
      'REFUSED',
      gated
        ? `${at} asks for permission (HTTP ${statusCode}): accept its terms on the hub and give a token by HF_TOKEN`
        : `${at}: ${messageOf(error)}`,
      { cause: error },
    );
  }
  if (error instanceof TypeError && error.message.includes('access token'))
    return new ModelError('REFUSED', 'HF_TOKEN is no token of the hub: it must start with hf_', {
      cause: error,
    });
  return new ModelError('UNREACHABLE', `${at} cannot be fetched: ${messageOf(error)}`, { cause: error });
}
