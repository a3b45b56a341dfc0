// The control plane always fills the seed, so that any answer can be replayed and a lost worker's tokens run again alike.
// Drawn seeds stay below 2^48: they pass through JSON numbers unharmed.
import { randomInt } from 'node:crypto';
import type { SamplingParams } from '@spotlight/proto';

const SEED_LIMIT = 2 ** 48 - 1;

export type SeededSampling = SamplingParams & { readonly seed: bigint };

export function withSeed(sampling: SamplingParams): SeededSampling {
  return { ...sampling, seed: sampling.seed ?? BigInt(randomInt(SEED_LIMIT)) };
}
