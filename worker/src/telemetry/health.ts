// Whether this worker does its work: judged by the age of the last step while one is in flight, not by the process being
// alive. The judgement is a pure function; WorkerStatus asks it again every half second and tells of changes.
import { WorkerState } from '@spotlight/proto';

export interface Vitals {
  /** The start is over. */
  readonly started: boolean;
  readonly draining: boolean;
  readonly engine: {
    readonly dead: string | undefined;
    /** A step is in flight. */
    readonly busy: boolean;
    readonly lastStepAgeMs: number;
  };
}

export interface Judgement {
  readonly state: WorkerState;
  /** Why the state is not READY; '' when it is. */
  readonly reason: string;
}

export function judge(vitals: Vitals, degradedAfterMs: number): Judgement {
  const { started, draining, engine } = vitals;
  if (engine.dead !== undefined) return { state: WorkerState.DEAD, reason: engine.dead };
  if (!started) return { state: WorkerState.STARTING, reason: 'the worker is starting' };
  if (draining)
    return { state: WorkerState.DRAINING, reason: 'the worker finishes what it has and takes nothing new' };
  if (engine.busy && engine.lastStepAgeMs > degradedAfterMs) {
    const age = (engine.lastStepAgeMs / 1000).toFixed(1);
    return { state: WorkerState.DEGRADED, reason: `work waits and the last step ended ${age} s ago` };
  }
  return { state: WorkerState.READY, reason: '' };
}

const IDLE: Vitals['engine'] = { dead: undefined, busy: false, lastStepAgeMs: 0 };

export class WorkerStatus {
  private readonly listeners = new Set<(judgement: Judgement) => void>();
  private readonly timer: NodeJS.Timeout;
  private readonly causes = new Set<string>();
  private engine: () => Vitals['engine'] = () => IDLE;
  private isStarted = false;
  private last = WorkerState.STARTING;

  constructor(
    private readonly degradedAfterMs: number,
    checkMs = 500,
  ) {
    this.timer = setInterval(() => {
      this.check();
    }, checkMs);
    this.timer.unref();
  }

  watch(engine: () => Vitals['engine']): void {
    this.engine = engine;
  }

  started(): void {
    this.isStarted = true;
    this.check();
  }

  /** Draining holds while any cause does: the shutdown, or a directive. */
  drain(cause: 'shutdown' | 'directive', on: boolean): void {
    if (on) this.causes.add(cause);
    else this.causes.delete(cause);
    this.check();
  }

  get draining(): boolean {
    return this.causes.size > 0;
  }

  /** Milliseconds; 0 while idle. */
  get lastStepAgeMs(): number {
    const { busy, lastStepAgeMs } = this.engine();
    return busy ? Math.round(lastStepAgeMs) : 0;
  }

  get judgement(): Judgement {
    const vitals = { started: this.isStarted, draining: this.draining, engine: this.engine() };
    return judge(vitals, this.degradedAfterMs);
  }

  /** Calls back after every change of state. Returns the unsubscribe. */
  onChange(listener: (judgement: Judgement) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Looks now instead of at the next turn of the clock. */
  check(): void {
    const { judgement } = this;
    if (judgement.state === this.last) return;
    this.last = judgement.state;
    for (const listener of this.listeners) listener(judgement);
  }
}
