// Keeps worker processes running: starts them, restarts one that exits, stops them all. It holds the other end of each worker's
// stdin and never writes: a worker started with --exit-with-parent ends when that pipe breaks, also when this process is killed.
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { nextRestart } from './restart-policy.js';

export interface WorkerCommand {
  readonly name: string;
  /** Node's arguments: the worker's entry file and its flags. */
  readonly args: readonly string[];
  /** Variables besides this process's own, such as the join token, which no command line should show. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface SupervisorEvents {
  started(name: string, pid: number): void;
  /** @param waitMs until it starts again; undefined when it stays down */
  exited(name: string, how: string, waitMs: number | undefined): void;
}

export interface SupervisorOptions {
  readonly events: SupervisorEvents;
  /** Asked at each exit; false leaves the worker down. */
  readonly mayRestart: () => boolean;
  /** How long a worker has to end after SIGTERM before SIGKILL. */
  readonly stopGraceMs?: number;
}

interface Supervised {
  readonly command: WorkerCommand;
  child: ChildProcess | undefined;
  restart: NodeJS.Timeout | undefined;
  failures: number;
}

export class WorkerSupervisor {
  private readonly workers: Supervised[] = [];
  private stopping = false;

  constructor(private readonly options: SupervisorOptions) {}

  start(command: WorkerCommand): void {
    const worker: Supervised = { command, child: undefined, restart: undefined, failures: 0 };
    this.workers.push(worker);
    this.launch(worker);
  }

  /** Ends every worker, politely first. Idempotent; no event follows. */
  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.workers.map((worker) => this.end(worker)));
  }

  private launch(worker: Supervised): void {
    const { events, mayRestart } = this.options;
    const startedAt = performance.now();
    // stdout is for what the user asked for, so the workers' logs join this process's on stderr.
    const child = spawn(process.execPath, worker.command.args, {
      env: { ...process.env, ...worker.command.env },
      // A process group of its own: Ctrl-C in a terminal reaches the supervisor alone, which lets running requests finish.
      detached: true,
      stdio: ['pipe', process.stderr, process.stderr],
    });
    worker.child = child;
    worker.restart = undefined;
    let settled = false;
    const onEnd = (how: string): void => {
      if (settled) return;
      settled = true;
      worker.child = undefined;
      if (this.stopping) return;
      if (!mayRestart()) {
        events.exited(worker.command.name, how, undefined);
        return;
      }
      const { failures, waitMs } = nextRestart(worker.failures, performance.now() - startedAt);
      worker.failures = failures;
      events.exited(worker.command.name, how, waitMs);
      worker.restart = setTimeout(() => {
        this.launch(worker);
      }, waitMs);
    };
    child.once('error', (error) => {
      onEnd(error.message);
    });
    child.once('exit', (code, signal) => {
      onEnd(signal === null ? `status ${code ?? 'unknown'}` : `signal ${signal}`);
    });
    if (child.pid !== undefined) events.started(worker.command.name, child.pid);
  }

  private async end(worker: Supervised): Promise<void> {
    clearTimeout(worker.restart);
    const child = worker.child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => {
      child.once('exit', () => {
        resolve();
      });
    });
    child.kill('SIGTERM');
    const kill = setTimeout(() => child.kill('SIGKILL'), this.options.stopGraceMs ?? 10_000);
    await gone;
    clearTimeout(kill);
  }
}
