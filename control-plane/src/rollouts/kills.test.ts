// The control plane killed at every statement of a rollout, one run each: before the statement, or after the commit and before anybody
// heard of it. The next one finds the rows, and the rollout ends as it would have, with every move logged exactly once.
import assert from 'node:assert/strict';
import { and, eq } from 'drizzle-orm';
import { auditLog } from '../storage/schema.js';
import type { Transaction } from '../storage/storage.js';
import type { TemporaryStorage } from '../storage/temporary-storage.fixture.js';
import { temporaryStorage } from '../storage/temporary-storage.fixture.js';
import { hasEnded } from './rollout.js';
import { eventsOf } from './rollout-rows.js';
import type { WorldStorage } from './world.fixture.js';
import { World } from './world.fixture.js';

const STATEMENTS = ['insert', 'update', 'select', 'execute', 'delete'] as const;

class Killed extends Error {}

/** A storage that dies at the n-th write of a transaction, or when the n-th transaction has committed; and not again. */
class DyingStorage implements WorldStorage {
  #left: number;
  died = false;

  constructor(
    private readonly storage: WorldStorage,
    at: number,
    private readonly when: 'statement' | 'commit',
  ) {
    this.#left = at;
  }

  query: WorldStorage['query'] = (work) => this.storage.query(work);

  transaction: WorldStorage['transaction'] = async (work) => {
    const result = await this.storage.transaction((db) =>
      work(this.when === 'statement' ? this.#watch(db) : db),
    );
    if (this.when === 'commit') this.#count();
    return result;
  };

  #watch(db: Transaction): Transaction {
    return new Proxy(db, {
      get: (target, name) => {
        if (STATEMENTS.some((statement) => statement === name)) this.#count();
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }

  #count(): void {
    if (this.died) return;
    this.#left -= 1;
    if (this.#left >= 0) return;
    this.died = true;
    throw new Killed();
  }
}

describe('a rollout whose control plane is killed', function () {
  this.timeout(120_000);
  let database: TemporaryStorage;
  before(async () => {
    database = await temporaryStorage();
  });
  after(async () => {
    await database.remove();
  });

  interface Run {
    readonly died: boolean;
    readonly phase: string;
    readonly kinds: readonly string[];
  }

  async function run(at: number, when: 'statement' | 'commit', bad: boolean): Promise<Run> {
    const world = await World.make(database.storage, 2, 1);
    if (bad) world.quality.set(world.candidate, { kept: 0.2, failing: 0 });
    const id = await world.start(world.replica());
    const dying = new DyingStorage(database.storage, at, when);
    let replica = world.replica(dying);
    let row = await world.row(id);
    for (let beat = 0; beat < 100 && !hasEnded(row.phase); beat++) {
      try {
        await replica.beat();
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
        replica = world.replica();
        await replica.live.refresh();
      }
      world.step(replica, 40);
      row = await world.row(id);
    }
    for (let beat = 0; beat < 4; beat++) {
      await replica.beat();
      world.step(replica);
    }
    const winner = bad ? world.stable : world.candidate;
    for (const worker of world.workers) assert.deepEqual(worker.names, [winner], `killed at ${when} ${at}`);
    assert.equal(await world.active(), winner);
    const kinds = (await database.storage.query((db) => eventsOf(db, [id]))).map(({ kind }) => kind);
    const lines = await database.storage.query((db) =>
      db
        .select()
        .from(auditLog)
        .where(and(eq(auditLog.kind, 'rollout'), eq(auditLog.object, id)))
        .orderBy(auditLog.id),
    );
    assert.deepEqual(
      lines.map(({ action }) => action),
      kinds.map((kind) => `rollout.${kind}`),
    );
    await world.bury();
    return { died: dying.died, phase: row.phase, kinds };
  }

  for (const bad of [false, true]) {
    for (const when of ['statement', 'commit'] as const) {
      const name = bad ? 'rolls back' : 'is done';
      it(`${name} all the same, killed at every ${when}`, async () => {
        const moves = bad
          ? ['start', 'canary', 'hold', 'roll_back', 'rolled_back']
          : ['start', 'canary', 'hold', 'wave', 'hold', 'wave', 'hold', 'done'];
        let kills = 0;
        for (let at = 0; ; at++) {
          const { died, phase, kinds } = await run(at, when, bad);
          assert.equal(phase, bad ? 'rolled_back' : 'done', `killed at ${when} ${at}`);
          assert.deepEqual(kinds, moves, `killed at ${when} ${at}`);
          if (!died) break;
          kills += 1;
        }
        assert.ok(kills >= moves.length, `${kills} kills`);
      });
    }
  }
});
