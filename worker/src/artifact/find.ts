// Which hash artifact a model is served with: the one given, or the one that ships for its fingerprint, or none.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ArtifactInfo } from '@spotlight/cuda';

export interface ArtifactChoice {
  /** undefined: served dense. */
  readonly path: string | undefined;
  /** Why it is this one, for the log. */
  readonly reason: string;
}

export interface FindOptions {
  /** "auto", "none" or a path. */
  readonly setting: string;
  readonly fingerprint: string;
  readonly inspect: (path: string) => Promise<ArtifactInfo>;
  /** Folder of artifacts that ship with the worker. */
  readonly folder?: string;
}

const SHIPPED_ARTIFACTS = fileURLToPath(new URL('../../artifacts', import.meta.url));

/** [async] A given path is not looked into here: loading it says what is wrong with it. Throws for a broken shipped file. */
export async function findArtifact(options: FindOptions): Promise<ArtifactChoice> {
  const { setting, fingerprint, inspect, folder = SHIPPED_ARTIFACTS } = options;
  if (setting === 'none') return { path: undefined, reason: '--artifact none' };
  if (setting !== 'auto') return { path: setting, reason: '--artifact' };
  for (const name of await shipped(folder)) {
    const path = join(folder, name);
    if ((await inspect(path)).fingerprint === fingerprint) return { path, reason: 'ships for this model' };
  }
  return {
    path: undefined,
    reason: `no artifact ships for this model (fingerprint ${fingerprint.slice(0, 16)})`,
  };
}

async function shipped(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith('.safetensors')).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
