import assert from 'node:assert/strict';
import { DEFAULT_ATTENTION, settingsDigest } from './attention.js';
import type { AttentionSettings } from './types.js';

describe('settingsDigest', () => {
  const base = settingsDigest(DEFAULT_ATTENTION);

  it('is 64 hex digits and does not depend on how settings are written', () => {
    assert.match(base, /^[0-9a-f]{64}$/);
    const reversed = Object.fromEntries(
      Object.entries(DEFAULT_ATTENTION).reverse(),
    ) as unknown as AttentionSettings;
    assert.equal(settingsDigest(reversed), base);
    assert.equal(settingsDigest({ ...DEFAULT_ATTENTION, layers: {} }), base);
    const layers = { 3: { mode: 'dense' }, 12: { mode: 'sparse', fraction: 0.1 } } as const;
    const swapped = { 12: layers[12], 3: layers[3] };
    assert.equal(
      settingsDigest({ ...DEFAULT_ATTENTION, layers }),
      settingsDigest({ ...DEFAULT_ATTENTION, layers: swapped }),
    );
  });

  it('tells every field apart', () => {
    const changes: Partial<AttentionSettings>[] = [
      { backend: 'dense' },
      { fraction: 0.03 },
      { minTokens: 257 },
      { sink: 5 },
      { recent: 65 },
      { tail: 'none' },
      { tailFrom: 3 },
      { crossover: 1 },
      { layers: { 3: { mode: 'dense' } } },
      { layers: { 3: { mode: 'sparse' } } },
      { layers: { 3: { mode: 'sparse', fraction: 0.1 } } },
    ];
    const digests = new Set(changes.map((change) => settingsDigest({ ...DEFAULT_ATTENTION, ...change })));
    assert.equal(digests.size, changes.length);
    assert.ok(!digests.has(base));
  });
});
