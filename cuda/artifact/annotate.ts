// The same weights under other metadata: a new file with a new digest, since the digest names the bytes, that says which file it was
// made of. Tensors are copied as they are, byte for byte, so that two such files give the same codes.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { EngineError } from '../errors.js';
import { readSafetensors, writeSafetensors } from './safetensors.js';

/** Metadata entry of an annotated file: the digest of the file whose weights it has. */
export const DERIVED_FROM = 'derived_from';

/** What tensors and model say is not for a note to change. */
const FIXED = ['format', 'encoder', 'bits', 'head_dim', 'query_heads', 'kv_heads', 'model_fingerprint'];

/**
 * [async] Writes `output`: the tensors of `input`, its metadata with `entries` in place of those of the same name, and `derived_from`.
 * Gives the new file's digest. Equal inputs give equal bytes. Throws EngineError ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT, and
 * INVALID_ARGUMENT for an entry that tensors decide.
 */
export async function annotateArtifact(
  input: string,
  output: string,
  entries: Readonly<Record<string, string>>,
): Promise<string> {
  const fixed = FIXED.find((name) => name in entries);
  if (fixed !== undefined)
    throw new EngineError('INVALID_ARGUMENT', `metadata.${fixed}: the tensors and the model decide it`);
  const { tensors, metadata } = await readSafetensors(input);
  const derived = { [DERIVED_FROM]: await digestOf(input) };
  await writeSafetensors(output, { tensors, metadata: { ...metadata, ...entries, ...derived } });
  return digestOf(output);
}

async function digestOf(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}
