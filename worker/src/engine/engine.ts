// R5: the loop. A step is drain -> schedule -> pack -> native step -> commit -> emit, with two steps in flight: step
// n + 1 is scheduled and queued while step n runs, fed by tokens only the native engine knows yet, so that the device
// never waits for this process. One loop owns all state; callers only leave word (desk.ts) and wake it.
import { MAX_STEPS_IN_FLIGHT, toEngineError } from '@spotlight/cuda';
import type { SlotId } from '@spotlight/cuda';
import { ErrorCode } from '@spotlight/proto';
import type { Error as WireError, Load } from '@spotlight/proto';
import { SLOTS } from '../artifact/slots.js';
import { auditBlocks } from '../kv/audit.js';
import { BlockManager } from '../kv/block-manager.js';
import type { EngineRequest, RequestEngine, UpdateSink } from './api.js';
import { Clients } from './clients.js';
import { DecodeSet } from './decode-set.js';
import { Desk } from './desk.js';
import { Intake } from './intake.js';
import { Lifecycle } from './lifecycle.js';
import { NativeSteps } from './native-steps.js';
import type { EngineHealth, EngineLoopOptions } from './options.js';
import { Output } from './output.js';
import { PrefillQueue } from './prefill-queue.js';
import { QualitySampler } from './quality.js';
import { refusal } from './refusal.js';
import { Rehasher } from './rehasher.js';
import { Scheduler } from './scheduler.js';
import { SequenceMemory } from './sequence-memory.js';

/** Node fires longer timers at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

export class EngineLoop implements RequestEngine {
  readonly #queue = new PrefillQueue();
  readonly #decoding = new DecodeSet();
  readonly #blocks: BlockManager;
  readonly #output: Output;
  readonly #desk: Desk;
  readonly #steps: NativeSteps;
  readonly #memory: SequenceMemory;
  readonly #clients: Clients;
  /** Told of every slot whose artifact changes. */
  readonly rehasher: Rehasher;
  /** Resolves with the fault's message once the native engine is dead and every request has been told. */
  readonly died: Promise<string>;
  readonly #ended: Promise<void>;
  #tellDeath: (message: string) => void = () => undefined;
  #lastProgress = performance.now();
  #wake: (() => void) | undefined;
  #soon: NodeJS.Immediate | undefined;
  #dead: string | undefined;
  #stopping = false;

  constructor(private readonly options: EngineLoopOptions) {
    const { native, texts, observer, maxWaiting = 512, mixedPromptTokens = 256 } = options;
    const stepTokens = Math.min(options.stepTokens ?? Infinity, native.info.maxBatchTokens);
    const seats = Math.min(native.info.maxSequences, stepTokens);
    this.#blocks = new BlockManager(native.info.blocks);
    const memory = new SequenceMemory(this.#blocks, seats);
    const scheduler = new Scheduler(
      memory,
      this.#queue,
      this.#decoding,
      { stepTokens, mixedPromptTokens },
      observer,
    );
    const clients = new Clients();
    this.#output = new Output(texts, clients);
    const lifecycle = new Lifecycle(memory, this.#queue, this.#decoding, this.#output, observer);
    const intake = new Intake(options, seats);
    const rouse = this.#rouse.bind(this);
    this.#desk = new Desk(clients, intake, this.#queue, lifecycle, this.#output, observer, maxWaiting, rouse);
    const { qualityRate = 0, rehashShare = 0.05, log } = options;
    const coded = (slot: SlotId): readonly number[] => native.artifacts[slot]?.layers ?? [];
    const quality = new QualitySampler(qualityRate, coded, native.info.model.kvHeads);
    this.#steps = new NativeSteps(native, memory, scheduler, lifecycle, texts.stopTokenIds, quality);
    this.#memory = memory;
    this.#clients = clients;
    this.rehasher = new Rehasher(native, this.#blocks, rehashShare, () => this.#busy, log);
    for (const slot of SLOTS) if (native.artifacts[slot] !== undefined) this.rehasher.changed(slot, true);
    this.died = new Promise((resolve) => (this.#tellDeath = resolve));
    this.#ended = this.#run();
  }

  submit(source: EngineRequest, sink: UpdateSink): WireError | undefined {
    return this.#desk.submit(source, sink);
  }

  cancel(requestId: string, sink: UpdateSink): void {
    this.#desk.cancel(requestId, sink);
  }

  cancelAll(sink: UpdateSink): void {
    this.#desk.cancelAll(sink);
  }

  credit(requestId: string, sink: UpdateSink, credits: number): void {
    this.#desk.credit(requestId, sink, credits);
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
    return { dead: this.#dead, busy: this.#busy, lastStepAgeMs: performance.now() - this.#lastProgress };
  }

  /** Requests pinned to a slot, running and waiting. */
  pinned(slot: SlotId): number {
    let count = 0;
    for (const request of this.#clients.requests())
      count += Number(request.state !== 'done' && request.slot === slot);
    return count;
  }

  /** Share of the cached blocks whose codes are of the slot's artifact. */
  rehashed(slot: SlotId): number {
    return this.rehasher.rehashed(slot);
  }

  /** Native sequences of ended requests are still to be closed. */
  get closing(): boolean {
    return this.#memory.closing.length > 0;
  }

  /** Takes no new request from now on; those here run to their end. */
  drain(): void {
    const message = 'this worker is draining; send the request to another';
    this.#desk.closed ??= refusal(ErrorCode.UNAVAILABLE, message);
  }

  /** Nothing cached is found again. */
  forgetPrefixes(): void {
    this.#blocks.forgetCached();
  }

  /** Ends every request, waits for the steps in flight and stops. The native engine stays open. Idempotent. */
  async stop(): Promise<void> {
    this.#desk.closed ??= refusal(
      ErrorCode.UNAVAILABLE,
      'this worker is stopping; send the request to another',
    );
    this.#desk.failAll(this.#desk.closed);
    this.#stopping = true;
    this.rehasher.stop();
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
    if (this.#dead !== undefined) this.#tellDeath(this.#dead);
  }

  async #step(): Promise<void> {
    const now = performance.now();
    this.#desk.expire(now);
    const plan = this.#steps.schedule(now);
    const queued = plan !== undefined && this.#steps.submit(plan, now);
    if (plan !== undefined && (!queued || this.#steps.inFlight < MAX_STEPS_IN_FLIGHT)) return;
    if (this.#steps.inFlight === 0) return this.#rest();
    const { step, seconds } = await this.#steps.retire();
    this.#lastProgress = performance.now();
    this.rehasher.stepped(seconds);
    this.#emit(step);
  }

  /** Requests that do not wait for their clients, and nothing in flight: the loop is stuck, and must not look idle. */
  get #busy(): boolean {
    return this.#steps.inFlight > 0 || this.#queue.ready || this.#decoding.ready;
  }

  #emit(step: number): void {
    for (const { sink, error } of this.#output.emit(step, () => this.load())) {
      this.options.log.error(
        { err: error },
        'a stream failed to take its updates; its requests are cancelled',
      );
      this.#desk.cancelAll(sink);
    }
  }

  /** Nothing can run: news goes out, the books are checked, and the loop sleeps until a caller or a deadline wakes it. */
  async #rest(): Promise<void> {
    this.#emit(0);
    this.rehasher.resume();
    if (this.#queue.filling.length + this.#decoding.choices.length === 0) this.#audit();
    const awake = new Promise<void>((resolve) => (this.#wake = resolve));
    const wait = this.#desk.nextDeadline - performance.now();
    const timer = Number.isFinite(wait)
      ? setTimeout(() => this.#wake?.(), Math.min(Math.max(0, wait) + 1, LONGEST_TIMER))
      : undefined;
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

  #die(message: string): void {
    this.options.log.error({ message }, 'the native engine is dead');
    this.#dead = message;
    this.#desk.closed = refusal(ErrorCode.UNAVAILABLE, `the engine of this worker is dead: ${message}`);
    this.#desk.failAll(refusal(ErrorCode.WORKER_LOST, `the engine of this worker died: ${message}`));
  }
}
