// R5: the loop. A step is drain -> schedule -> pack -> native step -> commit -> emit, with two steps in flight: step
// n + 1 is scheduled and queued while step n runs, fed by tokens only the native engine knows yet, so that the device
// never waits for this process. One loop owns all state; callers only leave word and wake it.
import { MAX_STEPS_IN_FLIGHT, toEngineError } from '@spotlight/cuda';
import { ErrorCode } from '@spotlight/proto';
import type { Error as WireError, Load } from '@spotlight/proto';
import type { Logger } from 'pino';
import { auditBlocks } from '../kv/audit.js';
import { BlockManager } from '../kv/block-manager.js';
import type { EngineRequest, RequestEngine, UpdateSink } from './api.js';
import { Clients } from './clients.js';
import { DecodeSet } from './decode-set.js';
import { Intake } from './intake.js';
import type { IntakeOptions } from './intake.js';
import { Lifecycle } from './lifecycle.js';
import type { EngineObserver } from './observer.js';
import { NativeSteps } from './native-steps.js';
import { Output } from './output.js';
import { PrefillQueue } from './prefill-queue.js';
import { refusal } from './refusal.js';
import { Request } from './request.js';
import { Scheduler } from './scheduler.js';
import { SequenceMemory } from './sequence-memory.js';

export interface EngineLoopOptions extends IntakeOptions {
  readonly observer: EngineObserver;
  readonly log: Logger;
  /** Requests that may wait for admission. Default 512. */
  readonly maxWaiting?: number;
  /** Most tokens a step. Default: the native engine's. */
  readonly stepTokens?: number;
  /** Most prompt tokens in a step that also decodes. Default 256. */
  readonly mixedPromptTokens?: number;
}

/** What a health check asks. */
export interface EngineHealth {
  /** The first fault's message; every request ends with it from then on. */
  readonly dead: string | undefined;
  /** Whether a step is in flight. */
  readonly busy: boolean;
  /** Since the last step retired, or since work began when that is later. */
  readonly lastStepAgeMs: number;
}

export class EngineLoop implements RequestEngine {
  readonly #clients = new Clients();
  readonly #queue = new PrefillQueue();
  readonly #decoding = new DecodeSet();
  readonly #blocks: BlockManager;
  readonly #output: Output;
  readonly #lifecycle: Lifecycle;
  readonly #intake: Intake;
  readonly #steps: NativeSteps;
  readonly #ended: Promise<void>;
  #nextDeadline = Number.POSITIVE_INFINITY;
  #lastProgress = performance.now();
  #wake: (() => void) | undefined;
  #soon: NodeJS.Immediate | undefined;
  #refusing: WireError | undefined;
  #dead: string | undefined;
  #stopping = false;

  constructor(private readonly options: EngineLoopOptions) {
    const { native, texts, observer } = options;
    const stepTokens = Math.min(options.stepTokens ?? native.info.maxBatchTokens, native.info.maxBatchTokens);
    const seats = Math.min(native.info.maxSequences, stepTokens);
    this.#blocks = new BlockManager(native.info.blocks);
    const memory = new SequenceMemory(this.#blocks, seats);
    const limits = { stepTokens, mixedPromptTokens: options.mixedPromptTokens ?? 256 };
    const scheduler = new Scheduler(memory, this.#queue, this.#decoding, limits, observer);
    this.#output = new Output(texts, this.#clients);
    this.#lifecycle = new Lifecycle(memory, this.#queue, this.#decoding, this.#output, observer);
    this.#intake = new Intake(options, seats);
    this.#steps = new NativeSteps(native, memory, scheduler, this.#lifecycle, texts.stopTokenIds);
    this.#ended = this.#run();
  }

  submit(source: EngineRequest, sink: UpdateSink): WireError | undefined {
    const client = this.#clients.open(sink);
    const now = performance.now();
    const request = this.#refusing ?? this.#queueFull() ?? this.#intake.take(source, client, now);
    if (!(request instanceof Request)) {
      this.#clients.close(client);
      this.options.observer.rejected(request.code);
      return request;
    }
    client.requests.set(request.id, request);
    this.#queue.wait(request);
    this.#nextDeadline = Math.min(this.#nextDeadline, request.deadline ?? Number.POSITIVE_INFINITY);
    this.#lifecycle.resume(request, (choice) => source.resume.get(choice)?.tokenIds ?? [], now);
    this.#rouse();
    return undefined;
  }

  cancel(requestId: string, sink: UpdateSink): void {
    const request = this.#clients.find(sink)?.requests.get(requestId);
    if (request === undefined) return;
    this.#lifecycle.cancel(request, performance.now());
    this.#rouse();
  }

  cancelAll(sink: UpdateSink): void {
    const client = this.#clients.find(sink);
    if (client === undefined) return;
    for (const request of client.requests.values()) this.#lifecycle.cancel(request, performance.now());
    this.#rouse();
  }

  credit(requestId: string, sink: UpdateSink, credits: number): void {
    const request = this.#clients.find(sink)?.requests.get(requestId);
    if (request === undefined) return;
    request.credits += credits;
    if (request.choices.some((choice) => choice.delta !== undefined)) this.#output.announce(request);
    this.#rouse();
  }

  load(): Load {
    return {
      running: this.#queue.filling.length + this.#decoding.requestCount,
      waiting: this.#queue.waiting.length,
      freeBlocks: this.#blocks.available,
      totalBlocks: this.#blocks.total,
      waitingTokens: this.#queue.tokens,
    };
  }

  /** Blocks by state: free, cached and held by nobody, held by a request. */
  blockCounts(): { readonly free: number; readonly cached: number; readonly held: number } {
    const { freeCount, available, total } = this.#blocks;
    return { free: freeCount, cached: available - freeCount, held: total - available };
  }

  health(): EngineHealth {
    const busy = this.#steps.inFlight > 0;
    return { dead: this.#dead, busy, lastStepAgeMs: performance.now() - this.#lastProgress };
  }

  /** Takes no new request from now on; those here run to their end. */
  drain(): void {
    this.#refusing ??= refusal(ErrorCode.UNAVAILABLE, 'this worker is draining; send the request to another');
  }

  /** Cached blocks no longer fit what would be computed now (another artifact in a slot): nothing is found again. */
  forgetPrefixes(): void {
    this.#blocks.forgetCached();
  }

  /** Ends every request, waits for the steps in flight and stops. The native engine stays open. Idempotent. */
  async stop(): Promise<void> {
    this.#refusing ??= refusal(ErrorCode.UNAVAILABLE, 'this worker is stopping; send the request to another');
    this.#failAll(this.#refusing);
    this.#stopping = true;
    this.#rouse();
    await this.#ended;
  }

  async #run(): Promise<void> {
    try {
      while (!this.#stopping || this.#steps.inFlight > 0) await this.#step();
    } catch (error) {
      this.#die(toEngineError(error).message);
    }
    this.#emit(0);
  }

  async #step(): Promise<void> {
    const now = performance.now();
    this.#drain(now);
    const plan = this.#steps.schedule(now);
    const submitted = plan !== undefined && this.#steps.submit(plan, now);
    if (plan !== undefined && (!submitted || this.#steps.inFlight < MAX_STEPS_IN_FLIGHT)) return;
    if (this.#steps.inFlight === 0) return this.#rest();
    const step = await this.#steps.retire();
    this.#lastProgress = performance.now();
    this.#emit(step);
  }

  /** Requests whose deadline has passed end before more work is planned for them. */
  #drain(now: number): void {
    if (now < this.#nextDeadline) return;
    this.#nextDeadline = Number.POSITIVE_INFINITY;
    for (const request of this.#clients.requests()) {
      const { deadline } = request;
      if (deadline === undefined) continue;
      if (deadline <= now) this.#lifecycle.expire(request, now);
      else this.#nextDeadline = Math.min(this.#nextDeadline, deadline);
    }
  }

  #emit(step: number): void {
    this.#output.emit(step, () => this.load());
  }

  /** Nothing can run: news goes out, the books are checked, and the loop sleeps until a caller or a deadline wakes it. */
  async #rest(): Promise<void> {
    this.#emit(0);
    if (this.#queue.filling.length + this.#decoding.choices.length === 0) this.#audit();
    const awake = new Promise<void>((resolve) => (this.#wake = resolve));
    const wait = this.#nextDeadline - performance.now();
    const timer = Number.isFinite(wait) ? setTimeout(() => this.#wake?.(), Math.max(0, wait) + 1) : undefined;
    await awake;
    clearTimeout(timer);
    this.#wake = undefined;
    this.#lastProgress = performance.now();
  }

  /** Wakes the loop; when a step is running, news that needs no step does not wait for it. */
  #rouse(): void {
    if (this.#wake !== undefined) {
      this.#wake();
      return;
    }
    if (this.#soon !== undefined) return;
    this.#soon = setImmediate(() => {
      this.#soon = undefined;
      this.#emit(0);
    });
  }

  #audit(): void {
    for (const problem of auditBlocks(this.#blocks, [])) {
      this.options.log.error({ problem }, 'block audit failed');
      this.options.observer.auditFailed(problem);
    }
  }

  #queueFull(): WireError | undefined {
    const most = this.options.maxWaiting ?? 512;
    if (this.#queue.waiting.length < most) return undefined;
    return refusal(
      ErrorCode.OVERLOADED,
      `${most} requests wait already; try again later or on another worker`,
    );
  }

  #die(message: string): void {
    this.options.log.error({ message }, 'the native engine is dead');
    this.#dead = message;
    this.#refusing = refusal(ErrorCode.UNAVAILABLE, `the engine of this worker is dead: ${message}`);
    this.#failAll(refusal(ErrorCode.WORKER_LOST, `the engine of this worker died: ${message}`));
  }

  #failAll(error: WireError): void {
    const now = performance.now();
    for (const request of this.#clients.requests()) this.#lifecycle.fail(request, error, now);
  }
}
