import assert from 'node:assert/strict';
import { DEFAULT_ATTENTION, inspectArtifact, settingsDigest } from '@spotlight/cuda';
import type { ArtifactInfo, AttentionSettings } from '@spotlight/cuda';
import { pino } from 'pino';
import { loadConfig } from '../config/config.js';
import { RECOMMENDED } from './recommendation.js';
import { SlotTable } from './slots.js';
import { takeRecommendation } from './take-recommendation.js';

const LAYERS = { 0: { mode: 'dense' } } as const;

/** What a start with this recommendation leaves, and what it logs. */
async function start(recommended: string | undefined, ...flags: string[]) {
  const artifacts: (ArtifactInfo | undefined)[] = [undefined, undefined];
  const logged: { level: number; msg: string }[] = [];
  const set: AttentionSettings[] = [];
  const of = (text: string | undefined): ArtifactInfo =>
    ({ digest: text ?? 'none', metadata: text === undefined ? {} : { [RECOMMENDED]: text } }) as ArtifactInfo;
  const slots = new SlotTable({
    artifacts,
    loadArtifact: (slot, path) => Promise.resolve((artifacts[slot] = of(path === '' ? undefined : path))),
    unloadArtifact: () => Promise.resolve(),
  });
  await slots.load(0, recommended ?? '');
  const engine = { artifacts, setAttention: (settings: AttentionSettings) => set.push(settings) };
  const native = {
    DEFAULT_ATTENTION,
    settingsDigest,
    inspectArtifact,
    createEngine: () => assert.fail('it is open already'),
  };
  const log = pino(
    { level: 'info' },
    { write: (line: string) => logged.push(JSON.parse(line) as (typeof logged)[number]) },
  );
  const settings = takeRecommendation(loadConfig(flags, {}), native, engine, slots, DEFAULT_ATTENTION, log);
  return { settings, set, slots, logged };
}

describe('takeRecommendation', () => {
  const text = JSON.stringify({ minTokens: 32, layers: LAYERS });

  it('gives the engine what the artifact recommends, below what is given, and says so', async () => {
    const { settings, set, logged } = await start(text, '--attention-min-tokens', '64');
    assert.deepEqual(settings, { ...DEFAULT_ATTENTION, minTokens: 64, layers: LAYERS });
    assert.deepEqual(set, [settings]);
    assert.match(logged[0]?.msg ?? '', /as the artifact recommends/);
  });

  it('leaves the settings alone where nothing is recommended, and where it is told to', async () => {
    for (const { settings, set } of [
      await start(undefined),
      await start(text, '--attention-recommended', 'ignore'),
    ]) {
      assert.equal(settings, DEFAULT_ATTENTION);
      assert.deepEqual(set, []);
    }
  });

  it('warns of an artifact swapped in that recommends something else, and changes nothing', async () => {
    const { set, slots, logged } = await start(text);
    await slots.load(1, text);
    await slots.load(1, '');
    assert.equal(logged.length, 1);
    await slots.load(1, '{"minTokens":512}');
    assert.equal(set.length, 1);
    assert.match(logged.at(-1)?.msg ?? '', /recommends other attention settings/);
    assert.equal(logged.at(-1)?.level, 40);
  });

  it('refuses a recommendation that is none, by field', async () => {
    await assert.rejects(start('{"minTokens":-1}'), /recommended_attention\.minTokens/);
    const { set } = await start('{"minTokens":-1}', '--attention-recommended', 'ignore');
    assert.deepEqual(set, []);
  });
});
