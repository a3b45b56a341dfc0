// A3: what an artifact retrieves, measured on a text the worker ships with before anyone is served by it: the beginning is read
// densely, the rest as generated tokens are, and every few tokens each layer and KV head is held against the exact softmax. It
// runs as a request beside the others, in chunks that cost them little, and its blocks go back as any request's do.
import { readFile } from 'node:fs/promises';
import type { ArtifactInfo, Engine, Quality, SlotId } from '@spotlight/cuda';
import { AttentionSettings, SamplingParams } from '@spotlight/proto';
import type { RequestUpdate, ValidateResponse } from '@spotlight/proto';
import type { EngineRequest, RequestEngine, UpdateSink } from '../engine/api.js';
import type { Reconciler } from '../fleet/reconciler.js';
import { MeasureError } from '../fleet/reconciler.js';

/** From Pride and Prejudice, in the public domain. */
const TEXT = new URL('../../validation/pride-and-prejudice.txt', import.meta.url);
const MOST_TOKENS = 1536;
/** Tokens at the end that attend as generated tokens. */
const RETRIEVED = 384;
const ROW_TOKENS = 16;
/** Below this the budget covers the context, and nothing is chosen. */
const LEAST_TOKENS = 2 * RETRIEVED;

export interface ValidationParts {
  readonly reconciler: Pick<Reconciler, 'measure'>;
  readonly engine: Pick<RequestEngine, 'submit'>;
  readonly tokenizer: { encode(text: string): Promise<readonly number[]> };
  readonly native: Pick<Engine, 'info' | 'artifacts'>;
}

/** [async] @throws MeasureError */
export async function validateArtifact(digest: string, parts: ValidationParts): Promise<ValidateResponse> {
  const { model, blocks } = parts.native.info;
  const ids = await parts.tokenizer.encode(await readFile(TEXT, 'utf8'));
  const tokens = ids.slice(0, Math.min(MOST_TOKENS, model.maxModelLen - 1, blocks * 64 - 1));
  if (tokens.length < LEAST_TOKENS) {
    throw new MeasureError(
      'FAILED_PRECONDITION',
      `validation needs a context of ${LEAST_TOKENS} tokens, this worker has room for ${tokens.length}`,
    );
  }
  return parts.reconciler.measure(digest, async (slot) => {
    const artifact = parts.native.artifacts[slot];
    const samples = artifact === undefined ? [] : await measure(slot, artifact, tokens, parts);
    if (samples.length === 0) {
      const why = 'no layer of this worker retrieves: its attention settings make every layer dense';
      throw new MeasureError('FAILED_PRECONDITION', why);
    }
    return { ...summary(samples), tokens: tokens.length, samples: samples.length };
  });
}

async function measure(
  slot: SlotId,
  artifact: ArtifactInfo,
  promptTokens: readonly number[],
  { engine }: ValidationParts,
): Promise<Quality[]> {
  const samples: Quality[] = [];
  const request: EngineRequest = {
    requestId: `validate ${artifact.digest}`,
    promptTokens,
    sampling: SamplingParams.fromPartial({ seed: 0n, temperature: 0, maxTokens: 0 }),
    attention: AttentionSettings.fromPartial({
      backend: 'spotlight',
      densePrefixTokens: promptTokens.length - RETRIEVED,
    }),
    resume: new Map(),
    credits: undefined,
    deadline: undefined,
    artifactDigest: artifact.digest,
    measure: {
      slot,
      rowTokens: ROW_TOKENS,
      take: (sample) => samples.push(sample),
    },
  };
  await new Promise<void>((resolve, reject) => {
    const sink: UpdateSink = {
      send: (_step, updates: readonly RequestUpdate[]) => {
        const { error, done } = updates.at(-1) ?? {};
        if (error !== undefined) reject(new MeasureError('UNAVAILABLE', error.message));
        else if (done === true) resolve();
      },
    };
    const refused = engine.submit(request, sink);
    if (refused !== undefined) reject(new MeasureError('UNAVAILABLE', refused.message));
  });
  return samples;
}

/** Means by layer, and of the layers. Pure. */
export function summary(samples: readonly Quality[]): Pick<ValidateResponse, 'layers' | 'iou' | 'keptMass'> {
  const byLayer = new Map<number, Quality[]>();
  for (const sample of samples) {
    const own = byLayer.get(sample.layer);
    if (own === undefined) byLayer.set(sample.layer, [sample]);
    else own.push(sample);
  }
  const layers = [...byLayer]
    .sort(([a], [b]) => a - b)
    .map(([layer, own]) => ({
      layer,
      iou: mean(own.map(({ iou }) => iou)),
      keptMass: mean(own.map(({ keptMass }) => keptMass)),
    }));
  return {
    layers,
    iou: mean(layers.map(({ iou }) => iou)),
    keptMass: mean(layers.map(({ keptMass }) => keptMass)),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
