import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { annotateArtifact, DEFAULT_ATTENTION, DERIVED_FROM, EngineError } from '@spotlight/cuda';
import type { LayerSettings } from '@spotlight/cuda';
import { readSafetensors } from '@spotlight/cuda/artifact';
import { layers as parseLayers } from '../config/values.js';
import { layersText, RECOMMENDED, recommendationOf, settingsOver } from './recommendation.js';

const SHIPPED = fileURLToPath(
  new URL('../../artifacts/smollm2-135m-instruct.linear-asym-128.safetensors', import.meta.url),
);
const of = (text: string) => recommendationOf({ metadata: { [RECOMMENDED]: text } });

describe('an artifact’s recommendation', () => {
  it('is read as it was written, and absent where there is none', () => {
    const settings = {
      ...{ minTokens: 128, sink: 4, recent: 64, tail: 'block-mean', tailFrom: 0 },
      layers: { 0: { mode: 'dense' }, 1: { mode: 'sparse-tail', fraction: 0.02 } },
    };
    assert.deepEqual(of(JSON.stringify(settings)), settings);
    assert.equal(recommendationOf({ metadata: {} }), undefined);
  });

  it('is refused by field', () => {
    for (const [text, message] of [
      ['{', /recommended_attention: is not JSON/],
      ['[]', /recommended_attention: must be an object/],
      ['{"fraction":0}', /\.fraction: must be a number above 0/],
      ['{"minTokens":1.5}', /\.minTokens: must be a whole number/],
      ['{"tail":"yes"}', /\.tail: must be block-mean or none/],
      ['{"backend":"oracle"}', /\.backend: is unknown/],
      ['{"constructor":1}', /\.constructor: is unknown/],
      ['{"layers":{"x":{"mode":"dense"}}}', /\.layers\.x: is no index/],
      ['{"layers":{"3":{"mode":"fast"}}}', /\.layers\.3\.mode: must be dense/],
      ['{"layers":{"3":{"mode":"dense","bits":1}}}', /\.layers\.3\.bits: is unknown/],
    ] as const)
      assert.throws(
        () => of(text),
        (error) =>
          error instanceof EngineError && error.code === 'ARTIFACT_CORRUPT' && message.test(error.message),
        text,
      );
  });

  it('stands above the defaults and below what is given', () => {
    const recommended = {
      minTokens: 32,
      layers: { 0: { mode: 'dense' }, 1: { mode: 'sparse', fraction: 0.05 } },
    } as const;
    const base = settingsOver(DEFAULT_ATTENTION, recommended);
    assert.deepEqual(base, { ...DEFAULT_ATTENTION, ...recommended });
    assert.deepEqual(settingsOver(base, { sink: 0 }).layers, recommended.layers);
    // A fraction for all layers is for all layers.
    assert.deepEqual(settingsOver(base, { fraction: 0.1 }).layers, {
      0: { mode: 'dense' },
      1: { mode: 'sparse' },
    });
    assert.deepEqual(settingsOver(base, { fraction: 0.1, layers: {} }).layers, {});
  });

  it('writes layers as the worker’s flag reads them', () => {
    const layers: Record<number, LayerSettings> = {
      0: { mode: 'dense' },
      1: { mode: 'dense' },
      2: { mode: 'sparse', fraction: 0.01 },
      3: { mode: 'sparse-tail', fraction: 0.05 },
      4: { mode: 'sparse-tail', fraction: 0.05 },
      7: { mode: 'dense' },
    };
    const text = '0-1:dense,2:sparse:0.01,3-4:sparse-tail:0.05,7:dense';
    assert.equal(layersText(layers), text);
    assert.deepEqual(parseLayers(text), layers);
  });

  it('makes a new file of the same weights that says what it was made of, the same every time', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spotlight-recommendation-'));
    try {
      const [one, two] = [join(folder, 'one.safetensors'), join(folder, 'two.safetensors')];
      const digest = await annotateArtifact(SHIPPED, one, { [RECOMMENDED]: '{}' });
      assert.equal(await annotateArtifact(SHIPPED, two, { [RECOMMENDED]: '{}' }), digest);
      assert.deepEqual(await readFile(one), await readFile(two));
      const [before, after] = [await readSafetensors(SHIPPED), await readSafetensors(one)];
      assert.deepEqual(after.tensors, before.tensors);
      const { [RECOMMENDED]: recommended, [DERIVED_FROM]: from, ...rest } = after.metadata;
      assert.equal(recommended, '{}');
      assert.match(from ?? '', /^[0-9a-f]{64}$/);
      assert.notEqual(from, digest);
      assert.deepEqual(rest, before.metadata);
      await assert.rejects(annotateArtifact(SHIPPED, two, { bits: '64' }), /metadata\.bits/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
