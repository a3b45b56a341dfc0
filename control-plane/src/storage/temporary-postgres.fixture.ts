// A Postgres server of a test's own in a temporary folder, on a Unix socket, where its binaries are installed. It can be killed with
// -9 and started again on the same data, so its writes are synced as in service unless a test asks for speed.
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'pg';

const NOBODY = 65534;
const ANSWERS_WITHIN_MS = 20_000;

export class TemporaryPostgres {
  #databases = 0;

  private constructor(
    private readonly bin: string,
    private readonly root: string,
    private readonly user: { uid?: number; gid?: number },
    private readonly durable: boolean,
    private server: ChildProcess,
  ) {}

  /** @returns why there is none, in words, where it cannot run */
  static async start({ durable = false } = {}): Promise<TemporaryPostgres | string> {
    const bin = process.env['PATH']?.split(':').find((dir) => existsSync(join(dir, 'initdb')));
    if (bin === undefined) return 'no initdb in PATH';
    const root = mkdtempSync(join(tmpdir(), 'spotlight-pg-'));
    // Postgres refuses to run as root.
    const asRoot = process.getuid?.() === 0;
    const user = asRoot ? { uid: NOBODY, gid: NOBODY } : {};
    if (asRoot) {
      chownSync(root, NOBODY, NOBODY);
      chmodSync(root, 0o700);
    }
    try {
      const options = ['-D', join(root, 'data'), '-U', 'spotlight', '--auth=trust', '--no-sync'];
      execFileSync(join(bin, 'initdb'), options, { ...user, stdio: 'pipe' });
    } catch (error) {
      rmSync(root, { recursive: true });
      return `initdb cannot run here (${String(error).slice(0, 200)})`;
    }
    const postgres = new TemporaryPostgres(bin, root, user, durable, spawnServer(bin, root, user, durable));
    await postgres.#answers();
    return postgres;
  }

  url(database: string): string {
    return `postgres://spotlight@/${database}?host=${encodeURIComponent(this.root)}`;
  }

  /** [async] A new, empty database. @returns its name */
  async create(): Promise<string> {
    this.#databases += 1;
    const name = `t${this.#databases}`;
    const pool = this.#pool();
    await pool.query(`create database ${name}`);
    await pool.end();
    return name;
  }

  /** [async] kill -9 of the server and, as it shares memory with them, of all its processes. */
  async kill(): Promise<void> {
    const gone = once(this.server, 'exit');
    // The server leads a process group of its own.
    if (this.server.pid !== undefined) process.kill(-this.server.pid, 'SIGKILL');
    await gone;
  }

  /** [async] On the data that a killed one left. */
  async again(): Promise<void> {
    rmSync(join(this.root, 'data', 'postmaster.pid'), { force: true });
    this.server = spawnServer(this.bin, this.root, this.user, this.durable);
    await this.#answers();
  }

  async remove(): Promise<void> {
    if (this.server.exitCode === null && this.server.signalCode === null) {
      const gone = once(this.server, 'exit');
      this.server.kill('SIGINT');
      await gone;
    }
    rmSync(this.root, { recursive: true });
  }

  #pool(): Pool {
    const pool = new Pool({ connectionString: this.url('postgres') });
    // A connection under way to its end may still hear that the server stops.
    pool.on('error', () => undefined);
    pool.on('connect', (client) => {
      client.on('error', () => undefined);
    });
    return pool;
  }

  async #answers(): Promise<void> {
    const deadline = performance.now() + ANSWERS_WITHIN_MS;
    for (;;) {
      const pool = this.#pool();
      try {
        await pool.query('select 1');
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(50);
      } finally {
        await pool.end();
      }
    }
  }
}

function spawnServer(
  bin: string,
  root: string,
  user: { uid?: number; gid?: number },
  durable: boolean,
): ChildProcess {
  const options = ['-D', join(root, 'data'), '-k', root, '-c', 'listen_addresses='];
  if (!durable) options.push('-c', 'fsync=off');
  return spawn(join(bin, 'postgres'), options, { ...user, stdio: 'ignore', detached: true });
}
