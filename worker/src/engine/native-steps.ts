// Between the plan and the native engine: sequences opened, the batch packed and queued, its result awaited. A batch the
// native engine refuses has changed nothing there and nothing here, so the request at fault ends and the rest is planned
// again.
import { MAX_STEPS_IN_FLIGHT, toEngineError } from '@spotlight/cuda';
import type { Engine, EngineError, StepResult } from '@spotlight/cuda';
import { ErrorCode } from '@spotlight/proto';
import { Plan, open, pack, submitted } from './batch.js';
import { blocksFor } from '../kv/block-table.js';
import { refusal } from './refusal.js';
import type { Lifecycle } from './lifecycle.js';
import type { QualitySampler } from './quality.js';
import type { Request } from './request.js';
import type { Scheduler } from './scheduler.js';
import type { SequenceMemory } from './sequence-memory.js';

export interface Retired {
  readonly step: number;
  /** As the native engine measured it. */
  readonly seconds: number;
}

export class NativeSteps {
  readonly #spare: Plan[];
  readonly #inFlight: Plan[] = [];

  constructor(
    private readonly native: Engine,
    private readonly memory: SequenceMemory,
    private readonly scheduler: Scheduler,
    private readonly lifecycle: Lifecycle,
    private readonly endTokens: ReadonlySet<number>,
    private readonly quality: QualitySampler | undefined,
  ) {
    this.#spare = Array.from({ length: MAX_STEPS_IN_FLIGHT + 1 }, () => new Plan(memory.maxSequences));
  }

  get inFlight(): number {
    return this.#inFlight.length;
  }

  /** The next step, or undefined when nothing can run. Sequences that only wait to be closed make a step of their own. */
  schedule(now: number): Plan | undefined {
    const plan = this.#spare.pop();
    if (plan === undefined) throw new RangeError('more steps in flight than plans');
    this.scheduler.schedule(plan, now);
    if (plan.rows > 0 || (this.memory.closing.length > 0 && this.#inFlight.length === 0)) return plan;
    this.#spare.push(plan);
    return undefined;
  }

  /** Queues the step; false when a request had to end first and the step must be planned again. Throws on a fault. */
  submit(plan: Plan, now: number): boolean {
    try {
      if (!this.#openAll(plan, now)) return this.#drop(plan);
      plan.probe = this.quality?.choose(plan);
      submitted(plan, this.native.submit(pack(plan, this.memory)), this.memory);
      this.#inFlight.push(plan);
      return true;
    } catch (thrown) {
      this.#blame(plan, toEngineError(thrown), now);
      return this.#drop(plan);
    }
  }

  /** Waits for the oldest step in flight and commits it. Rejects on a fault. */
  async retire(): Promise<Retired> {
    const result = await this.native.collect();
    const plan = this.#inFlight.shift();
    if (plan === undefined) throw new RangeError('a step retired that was not submitted');
    this.#check(plan, result);
    this.lifecycle.commit(plan, result, performance.now());
    this.#spare.push(plan);
    return { step: plan.step, seconds: result.seconds };
  }

  #check(plan: Plan, result: StepResult): void {
    if (result.step !== plan.step || result.rows.length !== plan.rows) {
      throw new RangeError(
        `step ${plan.step} of ${plan.rows} rows retired as step ${result.step} of ${result.rows.length}`,
      );
    }
  }

  #openAll(plan: Plan, now: number): boolean {
    for (const choice of plan.choices) {
      if (choice.sequence !== undefined) continue;
      try {
        open(choice, this.native, this.endTokens, blocksFor(choice.computed));
      } catch (thrown) {
        const error = toEngineError(thrown);
        if (error.code !== 'INVALID_ARGUMENT') throw error;
        this.#fail(choice.request, error, now);
        return false;
      }
    }
    return true;
  }

  /** Ends the requests a refused batch is due to: the one whose row is named, or all when none is. */
  #blame(plan: Plan, error: EngineError, now: number): void {
    if (error.code !== 'INVALID_ARGUMENT' || plan.rows === 0) throw error;
    const row = /^rows\[(\d+)\]/.exec(error.message)?.[1];
    const named = row === undefined ? undefined : plan.choices[Number(row)]?.request;
    const requests = named === undefined ? new Set(plan.choices.map((choice) => choice.request)) : [named];
    for (const request of requests) this.#fail(request, error, now);
  }

  #fail(request: Request, error: EngineError, now: number): void {
    this.lifecycle.fail(
      request,
      refusal(ErrorCode.INTERNAL, `the native engine refused it: ${error.message}`),
      now,
    );
  }

  #drop(plan: Plan): false {
    this.#spare.push(plan);
    return false;
  }
}
