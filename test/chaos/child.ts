// A process that a chaos test kills: started with its first line of output awaited, ended by SIGKILL, never left behind.
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export class Child {
  private constructor(
    readonly process: ChildProcess,
    /** The first line it wrote, parsed. */
    readonly announced: Readonly<Record<string, unknown>>,
  ) {}

  /** Rejects with what it wrote to stderr when it ends before its first line. */
  static async start(script: string, args: readonly string[]): Promise<Child> {
    const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-5_000)));
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).once('line', resolve);
      child.once('exit', (code) => {
        reject(new Error(`${script} ended with ${code ?? 'a signal'}: ${errors}`));
      });
    });
    return new Child(child, JSON.parse(line) as Record<string, unknown>);
  }

  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** kill -9; resolves when it is gone. */
  async kill(): Promise<void> {
    if (!this.alive) return;
    const gone = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGKILL');
    await gone;
  }
}

/** Polls, since what is waited for happens in other processes; rejects after limitMs. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  what: string,
  limitMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${limitMs} ms for ${what}`);
    await sleep(20);
  }
}
