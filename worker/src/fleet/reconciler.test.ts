// Slots brought to what is wanted, over a slot table, a store and an engine under the test's hand.
import assert from 'node:assert/strict';
import type { ArtifactInfo, SlotId } from '@spotlight/cuda';
import { EngineError } from '@spotlight/cuda';
import { SlotState } from '@spotlight/proto';
import { pino } from 'pino';
import { SlotTable } from '../artifact/slots.js';
import { StoreError } from '../artifact/store.js';
import { MeasureError, Reconciler } from './reconciler.js';

const info = (digest: string, parts: Partial<ArtifactInfo> = {}): ArtifactInfo => ({
  digest,
  format: 1,
  encoder: 'linear-asym',
  bits: 128,
  headDim: 64,
  queryHeads: 9,
  kvHeads: 3,
  layers: [0, 1],
  fingerprint: 'f',
  metadata: {},
  ...parts,
});

describe('Reconciler', () => {
  let artifacts: (ArtifactInfo | undefined)[];
  let known: Map<string, ArtifactInfo>;
  let pinned: [number, number];
  let rehashed: [number, number];
  let fetching: () => Promise<void>;
  let fetches: string[];
  let discarded: string[];
  let slots: SlotTable;
  let reconciler: Reconciler;
  let changes: number;

  beforeEach(async () => {
    artifacts = [undefined, undefined];
    known = new Map(['a', 'b', 'c'].map((digest) => [digest, info(digest)]));
    pinned = [0, 0];
    rehashed = [1, 1];
    fetching = () => Promise.resolve();
    fetches = [];
    discarded = [];
    changes = 0;
    slots = new SlotTable({
      artifacts,
      loadArtifact: (slot, path) => {
        if (pinned[slot] > 0) return Promise.reject(new EngineError('INVALID_ARGUMENT', 'pinned'));
        artifacts[slot] = known.get(path);
        rehashed[slot] = 0;
        return Promise.resolve(known.get(path) ?? assert.fail());
      },
      unloadArtifact: (slot) => {
        assert.equal(pinned[slot], 0, 'nothing is taken from under a request');
        artifacts[slot] = undefined;
        return Promise.resolve();
      },
    });
    await slots.load(0, 'a');
    rehashed[0] = 1;
    const had = new Set(['a']);
    reconciler = new Reconciler({
      slots,
      store: {
        find: (digest) => Promise.resolve(had.has(digest) ? digest : undefined),
        fetch: async (digest) => {
          fetches.push(digest);
          await fetching();
          if (!known.has(digest)) throw new StoreError('NOT_FOUND', `nobody has ${digest}`);
          had.add(digest);
          return digest;
        },
        discard: (digest) => {
          discarded.push(digest);
          had.delete(digest);
          return Promise.resolve();
        },
        prune: () => Promise.resolve(),
      },
      inspect: (path) => Promise.resolve(known.get(path) ?? assert.fail()),
      use: {
        pinned: (slot: SlotId) => pinned[slot],
        rehashed: (slot: SlotId) => rehashed[slot],
        closing: false,
      },
      log: pino({ level: 'silent' }),
      backoff: { firstMs: 20, mostMs: 40 },
    });
    reconciler.onChange(() => changes++);
  });
  afterEach(() => {
    reconciler.stop();
  });

  const want = (...list: readonly string[]): void => {
    reconciler.want(
      list.map((text) => ({ digest: text.replace('*', ''), active: text.endsWith('*') })),
      true,
    );
  };
  async function until(ready: () => boolean): Promise<void> {
    for (let tries = 0; !ready(); tries++) {
      assert.ok(
        tries < 400,
        JSON.stringify(reconciler.list(), (_, v: unknown) => (typeof v === 'bigint' ? `${v}` : v)),
      );
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  const states = (): string[] => reconciler.list().map(({ state }) => SlotState[state]);

  it('fetches, loads, waits for the rehash, flips, and lets the old one go with its last request', async () => {
    let arrive: () => void = () => undefined;
    fetching = () => new Promise((resolve) => (arrive = resolve));
    pinned = [2, 0];
    want('a', 'b*');
    await until(() => states()[1] === 'FETCHING');
    assert.equal(reconciler.list()[1]?.pendingDigest, 'b');
    assert.match(reconciler.message, /artifact b is on its way/);
    arrive();
    await until(() => states()[1] === 'REHASHING');
    assert.ok(!reconciler.inForce);
    assert.equal(slots.artifact?.digest, 'a', 'not before its codes are there');
    rehashed[1] = 0.5;
    assert.equal(reconciler.list()[1]?.rehashed, 0.5);
    rehashed[1] = 1;
    await until(() => slots.artifact?.digest === 'b');
    assert.ok(reconciler.inForce);
    rehashed[1] = 0.9;
    assert.equal(states()[1], 'READY', 'stragglers do not make it less ready');
    want('b*');
    await new Promise((resolve) => setTimeout(resolve, 80));
    assert.equal(slots.find('a'), 0, 'its requests keep it');
    pinned = [0, 5];
    await until(() => slots.find('a') === undefined);
    assert.deepEqual(states(), ['EMPTY', 'READY']);
    assert.deepEqual(fetches, ['b']);
    assert.ok(changes >= 4);
  });

  it('follows what is wanted last, whatever is on its way', async () => {
    let arrive: () => void = () => undefined;
    fetching = () => new Promise((resolve) => (arrive = resolve));
    want('a*', 'b');
    await until(() => states()[1] === 'FETCHING');
    want('a*', 'c');
    arrive();
    await until(() => fetches.includes('c'));
    arrive();
    await until(() => slots.find('c') === 1);
    assert.equal(slots.find('b'), undefined);
    want('a*');
    await until(() => slots.find('c') === undefined);
  });

  it('tries again what may pass, and says why it is not there yet', async () => {
    let failures = 3;
    fetching = () =>
      failures-- > 0
        ? Promise.reject(new StoreError('UNREACHABLE', 'connection refused'))
        : Promise.resolve();
    want('a*', 'b');
    await until(() => states()[1] === 'FAILED');
    assert.equal(reconciler.list()[1]?.message, 'connection refused');
    assert.equal(reconciler.message, 'connection refused');
    await until(() => slots.find('b') === 1);
    assert.equal(reconciler.message, '');
    assert.equal(fetches.length, 4);
  });

  it('refuses for good what does not fit beside the one that serves, until it is wanted anew', async () => {
    known.set('c', info('c', { bits: 256 }));
    want('a*', 'c');
    await until(() => states()[1] === 'FAILED');
    assert.match(reconciler.message, /256 bits a code where 128 are served/);
    await new Promise((resolve) => setTimeout(resolve, 120));
    assert.deepEqual(fetches, ['c']);
    known.set('c', info('c'));
    want('a*', 'c');
    await until(() => slots.find('c') === 1);
  });

  it('throws a file away that is not what its name says', async () => {
    known.set('b', info('other'));
    want('a*', 'b');
    await until(() => discarded.length > 0);
    assert.match(reconciler.message, /has digest other/);
    known.set('b', info('b'));
    await until(() => slots.find('b') === 1);
  });

  it('measures in the free slot, which takes no request and is empty again, or in the one that holds it', async () => {
    const seen = await reconciler.measure('b', (slot) => {
      assert.equal(slots.find('b'), undefined);
      assert.equal(artifacts[slot]?.digest, 'b');
      want('a*', 'c');
      return Promise.resolve(slot);
    });
    assert.equal(seen, 1);
    await until(() => slots.find('c') === 1);
    assert.equal(await reconciler.measure('c', (slot) => Promise.resolve(slot)), 1);
    assert.equal(slots.find('c'), 1, 'what was held stays');
    await assert.rejects(
      reconciler.measure('b', () => assert.fail()),
      (error) => error instanceof MeasureError && error.code === 'UNAVAILABLE' && /taken/.test(error.message),
    );
    want('a*');
    await until(() => slots.find('c') === undefined);
    const first = reconciler.measure('b', () => new Promise<number>((resolve) => setTimeout(resolve, 50, 1)));
    await assert.rejects(
      reconciler.measure('b', () => assert.fail()),
      /measured already/,
    );
    assert.equal(await first, 1);
    await assert.rejects(
      reconciler.measure('x', () => assert.fail()),
      (error) => error instanceof MeasureError && error.code === 'NOT_FOUND',
    );
    await assert.rejects(
      reconciler.measure('b', () => Promise.reject(new Error('the work failed'))),
      /the work failed/,
    );
    assert.deepEqual(
      artifacts.map((artifact) => artifact?.digest),
      ['a', undefined],
    );
  });
});
