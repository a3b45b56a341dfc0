// Keeps a second process out of the data folder, because PGlite itself opens one folder twice and corrupts it.
// A killed owner leaves its file behind; whoever takes it over must win a marker named after that very file, so that two
// starters can never both succeed. Ownership is pid plus process start time: pids come again.
import { linkSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';

interface Owner {
  readonly nonce: string;
  readonly pid: number;
  readonly host: string;
  /** Clock ticks since boot at which the process began; empty where /proc does not tell. */
  readonly started: string;
}

const HEARTBEAT_MS = 5_000;
/** Another host's process cannot be looked up: its file counts as held while its heartbeat is younger than this. */
const FOREIGN_STALE_MS = 20_000;
const ATTEMPTS = 50;
const ATTEMPT_MS = 20;

export class LockFile {
  readonly #heartbeat: NodeJS.Timeout;

  private constructor(
    readonly path: string,
    private readonly owner: Owner,
  ) {
    this.#heartbeat = setInterval(() => {
      try {
        utimesSync(path, new Date(), new Date());
      } catch {
        // A heartbeat that fails once is made good by the next; a folder that is gone fails louder elsewhere.
      }
    }, HEARTBEAT_MS);
    this.#heartbeat.unref();
  }

  /** @throws ServiceError FAILED_PRECONDITION naming the living owner */
  static async acquire(path: string): Promise<LockFile> {
    const owner: Owner = {
      nonce: randomUUID(),
      pid: process.pid,
      host: hostname(),
      started: startTime(process.pid),
    };
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (create(path, owner)) return new LockFile(path, owner);
      const holder = read(path);
      if (holder === undefined) continue;
      if (isAlive(path, holder)) throw held(path, holder);
      if (takeOver(path, holder, owner)) return new LockFile(path, owner);
      await sleep(ATTEMPT_MS);
    }
    throw new ServiceError(
      ErrorCode.FAILED_PRECONDITION,
      `The lock file ${path} keeps changing hands; stop the other servers of this data folder and start again.`,
    );
  }

  release(): void {
    clearInterval(this.#heartbeat);
    if (read(this.path)?.nonce === this.owner.nonce) rmSync(this.path, { force: true });
  }
}

/** Creates the file with its whole content or not at all: written aside, then linked, which fails if the name is taken. */
function create(path: string, owner: Owner): boolean {
  const aside = `${path}.${owner.nonce}.new`;
  writeFileSync(aside, JSON.stringify(owner));
  try {
    linkSync(aside, path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

function takeOver(path: string, dead: Owner, owner: Owner): boolean {
  const marker = `${path}.${dead.nonce}`;
  if (!create(marker, owner)) {
    const rival = read(marker);
    if (rival !== undefined && !isAlive(marker, rival)) rmSync(marker, { force: true });
    return false;
  }
  // With the marker in hand nobody else may replace this dead owner; if it is still the one, the lock is ours.
  if (read(path)?.nonce !== dead.nonce) {
    rmSync(marker, { force: true });
    return false;
  }
  renameSync(marker, path);
  return true;
}

/** Undefined when there is no such file; garbage (a disk that was full) reads as an owner that is dead. */
function read(path: string): Owner | undefined {
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { nonce, pid, host, started } = JSON.parse(content) as Record<string, unknown>;
    if (typeof nonce === 'string' && /^[0-9a-f-]{36}$/.test(nonce) && Number.isSafeInteger(pid)) {
      return { nonce, pid: pid as number, host: String(host), started: String(started) };
    }
  } catch {
    // Not JSON: falls through to the dead owner below.
  }
  return { nonce: 'unreadable', pid: 0, host: hostname(), started: '' };
}

function isAlive(path: string, owner: Owner): boolean {
  if (owner.pid <= 0) return false;
  if (owner.host !== hostname()) {
    const seen = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return Date.now() - seen < FOREIGN_STALE_MS;
  }
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    // EPERM: it lives and belongs to another user.
    if (codeOf(error) !== 'EPERM') return false;
  }
  const started = startTime(owner.pid);
  return started === '' || owner.started === '' || started === owner.started;
}

/** Field 22 of /proc/PID/stat; the command name before it may hold blanks and parentheses. */
function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function held(path: string, owner: Owner): ServiceError {
  const where = owner.host === hostname() ? '' : ` on ${owner.host}`;
  return new ServiceError(
    ErrorCode.FAILED_PRECONDITION,
    `The data folder is in use by process ${owner.pid}${where} (${path}); stop it, or choose another folder with --data.`,
    { field: 'data' },
  );
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
