// Keys against a real database, opened once for the file.
import assert from 'node:assert/strict';
import { Metadata } from '@grpc/grpc-js';
import { ErrorCode } from '@spotlight/proto';
import { eq } from 'drizzle-orm';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { AuditLog } from '../audit/audit-log.js';
import { loadConfig } from '../config/config.js';
import { apiKeys } from '../storage/schema.js';
import type { Storage } from '../storage/storage.js';
import type { TemporaryStorage } from '../storage/temporary-storage.fixture.js';
import { temporaryStorage } from '../storage/temporary-storage.fixture.js';
import { AuthService, bearer } from './auth.service.js';
import { FirstAdminKey } from './first-admin-key.js';
import { makeKey } from './key.js';
import { KeyStore } from './key-store.js';
import { NO_LIMITS } from './limits.js';

const log = pino({ level: 'silent' });
const OPEN = loadConfig({}, {});
const CLOSED = loadConfig(
  { host: '0.0.0.0' },
  {
    SPOTLIGHT_ADMIN_KEY: 'operators-own-key',
    SPOTLIGHT_JOIN_TOKENS: 'token-of-sixteen-chars,another-token-here',
  },
);

describe('auth', function () {
  this.timeout(30_000);
  let database: TemporaryStorage;
  let keys: KeyStore;
  before(async () => {
    database = await temporaryStorage();
    keys = new KeyStore(database.storage, log);
  });
  after(async () => {
    await keys.onModuleDestroy();
    await database.remove();
  });

  describe('AuthService', () => {
    it('asks nothing where no keys are required', async () => {
      const auth = new AuthService(OPEN, keys);
      for (const key of [undefined, 'anything', '']) {
        assert.equal((await auth.authenticate(key, 'admin')).name, 'local');
      }
    });

    it('wants a key elsewhere, and says how to send one', async () => {
      const auth = new AuthService(CLOSED, keys);
      await assert.rejects(auth.authenticate(undefined, 'generate'), {
        code: ErrorCode.UNAUTHENTICATED,
        message: /send "Authorization: Bearer KEY"/,
      });
      for (const key of ['nonsense', makeKey().key]) {
        await assert.rejects(auth.authenticate(key, 'generate'), { code: ErrorCode.UNAUTHENTICATED });
      }
    });

    it("takes the operator's own key for everything, and join tokens for joining only", async () => {
      const auth = new AuthService(CLOSED, keys);
      for (const scope of ['generate', 'admin', 'worker'] as const) {
        assert.equal((await auth.authenticate('operators-own-key', scope)).keyId, 'admin');
      }
      assert.equal((await auth.authenticate('another-token-here', 'worker')).keyId, 'join');
      await assert.rejects(auth.authenticate('another-token-here', 'generate'), {
        code: ErrorCode.UNAUTHENTICATED,
      });
      await assert.rejects(auth.authenticate('no-such-token-here', 'worker'), /SPOTLIGHT_JOIN_TOKENS/);
    });

    it('holds a key to its scopes and names them', async () => {
      const auth = new AuthService(CLOSED, keys);
      const { key } = await keys.create('app', ['generate'], 'tester');
      assert.equal((await auth.authenticate(key, 'generate')).name, 'app');
      await assert.rejects(auth.authenticate(key, 'admin'), {
        code: ErrorCode.PERMISSION_DENIED,
        message: 'The key "app" has the scopes generate; this needs admin.',
      });
    });

    it('reads the key of a gRPC call from its metadata', async () => {
      const auth = new AuthService(CLOSED, keys);
      const metadata = new Metadata();
      await assert.rejects(auth.authenticateCall(metadata, 'generate'), { code: ErrorCode.UNAUTHENTICATED });
      metadata.set('authorization', 'Bearer operators-own-key');
      assert.equal((await auth.authenticateCall(metadata, 'generate')).keyId, 'admin');
    });

    it('reads a bearer header and no other', () => {
      assert.equal(bearer('Bearer abc'), 'abc');
      assert.equal(bearer('bearer  abc '), 'abc');
      for (const header of [undefined, '', 'Bearer', 'Bearer ', 'Basic abc', 'Bearer a b', 'xBearer a']) {
        assert.equal(bearer(header), undefined);
      }
    });
  });

  describe('KeyStore', () => {
    it('stores no key, only its hash, and lists without either', async () => {
      const { key, info } = await keys.create('secretive', ['generate', 'worker'], 'tester');
      const [row] = await database.storage.query((db) =>
        db.select().from(apiKeys).where(eq(apiKeys.id, info.id)),
      );
      assert.ok(row && !JSON.stringify(row).includes(key.slice(-43)));
      const listed = (await keys.list()).find(({ id }) => id === info.id);
      assert.deepEqual(listed?.scopes, ['generate', 'worker']);
      assert.deepEqual(Object.keys(listed).sort(), [
        'created',
        'expires',
        'id',
        'lastUsed',
        'limits',
        'name',
        'prefix',
        'scopes',
      ]);
    });

    it('forgets a revoked key at once here, and elsewhere when it reads again', async () => {
      const { key, info } = await keys.create('short-lived', ['generate'], 'tester');
      const replica = new KeyStore(database.storage, log);
      assert.ok(await replica.find(key));
      await keys.revoke(info.id, 'tester');
      assert.equal(await keys.find(key), undefined);
      const later = new KeyStore(database.storage, log);
      assert.equal(await later.find(key), undefined);
      assert.ok(!(await keys.list()).some(({ id }) => id === info.id));
      await assert.rejects(keys.revoke(info.id, 'tester'), { code: ErrorCode.NOT_FOUND });
      await replica.onModuleDestroy();
    });

    it('takes an expired key for none, and changes and writes down what it is told', async () => {
      const expires = new Date(Date.now() + 300);
      const { key, info } = await keys.create('brief', ['worker'], 'tester', { expires });
      assert.equal((await keys.find(key))?.name, 'brief');
      while (Date.now() <= expires.getTime()) await sleep(20);
      assert.equal(await keys.find(key), undefined);
      const limits = { requestsPerMinute: 3, tokenBudget: 1000 };
      const changed = await keys.change(info.id, { expires: null, limits }, 'another');
      assert.deepEqual(changed.limits, { ...NO_LIMITS, ...limits });
      assert.equal((await keys.find(key))?.limits.requestsPerMinute, 3);
      await assert.rejects(keys.change('none', { limits }, 'tester'), { code: ErrorCode.NOT_FOUND });
      await keys.revoke(info.id, 'tester');
      const lines = await new AuditLog(database.storage).list({ kind: 'key', object: info.id, limit: 9 });
      assert.deepEqual(
        lines.map(({ action, actor }) => [action, actor]),
        [
          ['revoke', 'tester'],
          ['change', 'another'],
          ['create', 'tester'],
        ],
      );
      assert.ok(!JSON.stringify(lines).includes(key.slice(-43)));
    });

    it('asks the database once for many, and never for guesses', async () => {
      const { key } = await keys.create('busy', ['generate'], 'tester');
      let queries = 0;
      const counting: Pick<Storage, 'query' | 'transaction'> = {
        query: (work) => {
          queries++;
          return database.storage.query(work);
        },
        transaction: (work) => database.storage.transaction(work),
      };
      const store = new KeyStore(counting, log);
      const found = await Promise.all(Array.from({ length: 50 }, () => store.find(key)));
      assert.ok(found.every((info) => info?.name === 'busy'));
      for (let i = 0; i < 50; i++) assert.equal(await store.find(makeKey().key), undefined);
      assert.equal(queries, 1);
      await store.onModuleDestroy();
    });

    it('writes down the last use', async () => {
      const { key, info } = await keys.create('used', ['generate'], 'tester');
      await keys.find(key);
      const listed = (await keys.list()).find(({ id }) => id === info.id);
      assert.ok(listed?.lastUsed && Date.now() - listed.lastUsed.getTime() < 60_000);
    });

    it('fails closed when the database has never answered', async () => {
      const away = { query: () => Promise.reject(new Error('away')) } as unknown as Storage;
      await assert.rejects(new KeyStore(away, log).find(makeKey().key), /away/);
    });
  });

  describe('FirstAdminKey', () => {
    it('shows one key, once, and it is good', async () => {
      const shown: string[] = [];
      const ensure = (): Promise<void> =>
        new FirstAdminKey(database.storage, OPEN).ensure((key) => shown.push(key));
      await Promise.all([ensure(), ensure(), ensure()]);
      await ensure();
      assert.equal(shown.length, 1);
      const auth = new AuthService(CLOSED, new KeyStore(database.storage, log));
      assert.deepEqual((await auth.authenticate(shown[0], 'admin')).scopes, ['admin']);
    });

    it("shows none where the operator's own key is set", async () => {
      await new FirstAdminKey(database.storage, CLOSED).ensure(() => {
        assert.fail('shown');
      });
    });
  });
});
