import assert from 'node:assert/strict';
import { DEFAULT_ATTENTION } from '@spotlight/cuda';
import type { SelectorInfo } from '@spotlight/cuda';
import {
  MethodError,
  modeOf,
  parseMethods,
  reading,
  settingsOf,
  shareOf,
  tokensForBytes,
  tokensOf,
  withTails,
} from './methods.js';

const info = (name: SelectorInfo['name'], rest: Partial<SelectorInfo> = {}): SelectorInfo => ({
  ...{ name, paper: 'p', rule: 'r', indexBits: 0, indexBitsPerDim: 0 },
  ...{ tail: false, perQueryHead: false, evicts: false, ...rest },
});
const selectors = [
  info('oracle', { indexBitsPerDim: 16, tail: true }),
  info('quest', { indexBitsPerDim: 2, tail: true }),
  info('vattention', { indexBitsPerDim: 16 }),
  info('h2o', { indexBits: 32, evicts: true }),
];
const model = { layers: 4, kvHeads: 2, headDim: 64 };
const facts = { model, selectors, codeBits: 128 };
const options = { denseLayers: 0, tailFrom: 2, sink: 4, recent: 64 };
const method = (name: string) => parseMethods([name], facts)[0]!;
/** K and V of a token. */
const ROW = 256;

describe('methods', () => {
  it('are named with what there is', () => {
    assert.deepEqual(
      parseMethods(['dense', 'spotlight+tail', 'quest', 'dense'], facts).map(({ name, tail }) => [
        name,
        tail,
      ]),
      [
        ['dense', false],
        ['spotlight+tail', true],
        ['quest', false],
      ],
    );
    assert.throws(() => method('fast'), /"fast"; there are dense, spotlight, oracle, quest/);
    assert.throws(() => method('h2o+tail'), /what it evicts is gone/);
    assert.throws(() => method('dense+tail'), MethodError);
    assert.throws(() => parseMethods(['spotlight'], { ...facts, codeBits: undefined }), /--artifact/);
    assert.deepEqual(withTails(['dense', 'quest', 'h2o', 'spotlight', 'spotlight+tail'], selectors), [
      ...['dense', 'quest', 'quest+tail', 'h2o', 'spotlight', 'spotlight+tail'],
    ]);
  });

  it('take a share of the context, at least so many', () => {
    assert.equal(tokensOf(0.02, 8192, 0), 163);
    assert.equal(tokensOf(0.02, 50, 0), 1);
    assert.equal(tokensOf(0.02, 1024, 128), 128);
    assert.equal(tokensOf(0.5, 100, 128), 100);
  });

  it('become settings that retrieve so many tokens whatever the context', () => {
    const settings = settingsOf(method('quest+tail'), 163, { ...options, denseLayers: 2 });
    assert.deepEqual(settings, {
      ...{
        backend: 'quest',
        fraction: 1e-6,
        minTokens: 163,
        sink: 4,
        recent: 64,
        tail: 'block-mean',
        tailFrom: 2,
      },
      ...{ crossover: 0, layers: { 0: { mode: 'dense' }, 1: { mode: 'dense' } } },
    });
  });

  it('read what their index, rows and block means take', () => {
    const heads = model.layers * model.kvHeads;
    const bytes = (name: string, rows: number | undefined, changed = {}): number =>
      reading(method(name), rows, 6400, model, settingsOf(method(name), 100, { ...options, ...changed }))
        .bytes;
    assert.equal(bytes('dense', undefined), heads * 6400 * ROW);
    assert.equal(bytes('oracle', 100), heads * 100 * ROW);
    assert.equal(bytes('quest', 100), heads * (6400 * 16 + 100 * ROW));
    // Keys are read to choose: of what is chosen only the values are left to read.
    assert.equal(bytes('vattention', 100), heads * (6400 * 128 + 100 * 128));
    assert.equal(bytes('h2o', 100), heads * (100 * 4 + 100 * ROW));
    // Codes and the selection, in which the open block is whole; block means from layer 2 on.
    assert.equal(bytes('spotlight', 100), heads * (6400 * 16 + 100 * ROW));
    assert.equal(bytes('spotlight', 100, { recent: 0 }), heads * (6400 * 16 + 131.5 * ROW));
    assert.equal(bytes('oracle+tail', 100), heads * 131.5 * ROW + 2 * 2 * 100 * ROW);
    assert.equal(bytes('spotlight+tail', 100), bytes('spotlight', 100) + 2 * 2 * 100 * ROW);
    assert.equal(bytes('oracle', 100, { denseLayers: 1 }), 2 * (6400 + 3 * 100) * ROW);
    assert.equal(reading(method('oracle'), 100, 6400, model, {}).rows, 100);
  });

  it('go by what an artifact recommends, each layer by its own way', () => {
    const recommended = {
      ...{ minTokens: 32, sink: 4, recent: 64 },
      layers: {
        0: { mode: 'dense' },
        1: { mode: 'sparse', fraction: 0.05 },
        3: { mode: 'sparse-tail', fraction: 0.1 },
      },
    } as const;
    const [found] = parseMethods(['spotlight+recommended'], { ...facts, recommended });
    assert(found !== undefined);
    const settings = settingsOf(found, 100, options);
    assert.deepEqual(settings, { ...DEFAULT_ATTENTION, ...recommended, crossover: 0 });
    assert.deepEqual(
      [0, 1, 2, 3].map((layer) => modeOf(layer, settings)),
      // Layer 2 is as by default.
      ['dense', 'sparse', 'sparse-tail', 'sparse-tail'],
    );
    assert(Math.abs(shareOf(settings, 4) - (1 + 0.05 + DEFAULT_ATTENTION.fraction + 0.1) / 4) < 1e-12);
    assert.equal(
      reading(found, 100, 6400, model, settings).bytes,
      2 * (6400 * ROW + 3 * (6400 * 16 + 100 * ROW) + 2 * 100 * ROW),
    );
    assert.equal(modeOf(3, { ...settings, tail: 'none' }), 'sparse');
    assert.throws(() => method('spotlight+recommended'), /recommends no settings/);
  });

  it('count layers without codes as the dense ones they are', () => {
    const [found] = parseMethods(['spotlight'], { ...facts, codeLayers: [2, 3] });
    assert(found !== undefined);
    const settings = settingsOf(found, 100, options);
    assert.deepEqual(settings.layers, { 0: { mode: 'dense' }, 1: { mode: 'dense' } });
    assert.equal(
      reading(found, 100, 6400, model, settings).bytes,
      2 * 2 * (6400 * ROW + 6400 * 16 + 100 * ROW),
    );
  });

  it('are all there by one word', () => {
    const names = (given: string[]) => parseMethods(given, facts).map(({ name }) => name);
    assert.deepEqual(names(['all', 'oracle+tail']), [
      ...['dense', 'oracle', 'quest', 'vattention', 'h2o', 'spotlight', 'oracle+tail'],
    ]);
    assert.equal(withTails(['all'], selectors).filter((name) => name.endsWith('+tail')).length, 3);
  });

  it('are matched by an exact top-k of as many bytes', () => {
    for (const denseLayers of [0, 1])
      for (const rows of [1, 163, 6400]) {
        const settings = settingsOf(method('oracle'), rows, { ...options, denseLayers });
        const { bytes } = reading(method('oracle'), rows, 6400, model, settings);
        assert.equal(tokensForBytes(bytes, 6400, model, denseLayers), rows);
      }
    assert.equal(tokensForBytes(1e12, 6400, model, 0), 6400);
  });
});
