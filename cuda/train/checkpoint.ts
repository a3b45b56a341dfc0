// A training's state on disk: a safetensors file of three float32 tensors that carries a digest over all it says, so that a file
// half written, bent or of another training is refused before it costs hours. It appears whole or not at all.
import { createHash } from 'node:crypto';
import { readSafetensors, writeSafetensors } from '../artifact/safetensors.js';
import type { RawTensor } from '../artifact/safetensors.js';
import { EngineError } from '../errors.js';
import type { TrainerState } from './types.js';

const FORMAT = 'spotlight-training-1';
const TENSORS = ['first', 'second', 'weights'] as const;

/** What a checkpoint says of its training, as text; a training goes on only with the same. */
export type TrainingIdentity = Readonly<Record<string, string>>;

function digestOf(data: ReadonlyMap<string, Buffer>, metadata: Readonly<Record<string, string>>): string {
  const hash = createHash('sha256');
  for (const [key, value] of Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)))
    if (key !== 'digest') hash.update(JSON.stringify([key, value]));
  for (const name of TENSORS) hash.update(data.get(name) ?? '');
  return hash.digest('hex');
}

function bytesOf(values: Float32Array): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

/** [async] `identity` must not hold the keys format, step and digest. */
export async function writeCheckpoint(
  path: string,
  state: TrainerState,
  identity: TrainingIdentity,
): Promise<void> {
  const data = new Map(TENSORS.map((name) => [name, bytesOf(state[name])]));
  const metadata = { ...identity, format: FORMAT, step: String(state.step) };
  await writeSafetensors(path, {
    metadata: { ...metadata, digest: digestOf(data, metadata) },
    tensors: new Map(
      [...data].map(([name, bytes]): [string, RawTensor] => [
        name,
        { dtype: 'F32', shape: [bytes.length / Float32Array.BYTES_PER_ELEMENT], data: bytes },
      ]),
    ),
  });
}

/**
 * [async] Throws EngineError ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT, or INVALID_ARGUMENT naming what differs from `identity`.
 */
export async function readCheckpoint(path: string, identity: TrainingIdentity): Promise<TrainerState> {
  const { tensors, metadata } = await readSafetensors(path);
  const corrupt = (what: string): EngineError => new EngineError('ARTIFACT_CORRUPT', `${path}: ${what}`);
  if (metadata['format'] !== FORMAT)
    throw corrupt(`format ${metadata['format'] ?? 'not given'} where ${FORMAT} is due`);
  const data = new Map([...tensors].map(([name, tensor]) => [name, tensor.data]));
  if (metadata['digest'] !== digestOf(data, metadata)) throw corrupt('its digest does not match its content');
  for (const [key, value] of Object.entries(identity)) {
    const theirs = metadata[key];
    if (theirs !== value)
      throw new EngineError(
        'INVALID_ARGUMENT',
        `${path}: its ${key} is ${theirs ?? 'not given'}, this training's is ${value}`,
      );
  }
  const values = (name: (typeof TENSORS)[number]): Float32Array => {
    const bytes = data.get(name);
    if (bytes === undefined || tensors.get(name)?.dtype !== 'F32') throw corrupt(`no tensor ${name} of F32`);
    const copy = new Float32Array(bytes.length / Float32Array.BYTES_PER_ELEMENT);
    bytesOf(copy).set(bytes);
    return copy;
  };
  const step = Number(metadata['step']);
  if (!Number.isSafeInteger(step)) throw corrupt(`step ${metadata['step'] ?? 'not given'}`);
  return { step, weights: values('weights'), first: values('first'), second: values('second') };
}
