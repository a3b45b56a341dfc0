// R5: what runs in the next step. Decode first, in order of arrival; then prompts in chunks under the token budget;
// then admission by free blocks. Who lacks a block takes it from the youngest running request, which runs again later
// (preemption by recompute): the oldest always advances, so there is no deadlock. The rules are the pure functions below.
import { blocksFor } from '../kv/block-table.js';
import type { EngineObserver } from './observer.js';
import type { Plan } from './batch.js';
import type { DecodeSet } from './decode-set.js';
import type { PrefillQueue } from './prefill-queue.js';
import type { Choice, Request } from './request.js';
import type { Admission, SequenceMemory } from './sequence-memory.js';

export interface SchedulerLimits {
  /** Most tokens in a step. */
  readonly stepTokens: number;
  /** Most prompt tokens in a step that also decodes: more make every stream wait longer for its next token. */
  readonly mixedPromptTokens: number;
}

// ---- rules ----------------------------------------------------------------------------------------------------------

/** Prompt tokens that may still join a step with so many decode rows. */
export function promptBudget(limits: SchedulerLimits, decodeTokens: number): number {
  const left = Math.max(0, limits.stepTokens - decodeTokens);
  return decodeTokens === 0 ? left : Math.min(left, limits.mixedPromptTokens);
}

/**
 * End of the choice's next row that begins at `computed`: not past `limit`, within one phase, on one side of the prompt's
 * end, and short where a row's last token is to be measured.
 */
export function spanEnd(choice: Choice, limit: number, budget: number): number {
  const { boundary, prompt, measure } = choice.request;
  let end = Math.min(limit, choice.computed + budget);
  if (choice.computed < boundary) end = Math.min(end, boundary);
  if (choice.computed < prompt.length) end = Math.min(end, prompt.length);
  if (measure !== undefined && choice.computed >= boundary)
    end = Math.min(end, choice.computed + measure.rowTokens);
  return end;
}

/** Blocks admission leaves for those already decoding: each takes its next within 64 steps. */
export function admissionReserve(decoding: number): number {
  return decoding;
}

/**
 * Whom to preempt for `needer`: a request that waits for its client anyway, else the youngest of those younger than
 * the needer. `running` in order of arrival.
 */
export function chooseVictim(running: readonly Request[], needer: Request): Request | undefined {
  for (let i = running.length - 1; i >= 0; i--) {
    const request = running[i];
    if (request !== undefined && request.paused && request !== needer) return request;
  }
  const youngest = running.at(-1);
  return youngest !== undefined && youngest.arrival > needer.arrival ? youngest : undefined;
}

// ---- the scheduler --------------------------------------------------------------------------------------------------

export class Scheduler {
  readonly #behind: Choice[] = [];

  constructor(
    private readonly memory: SequenceMemory,
    private readonly queue: PrefillQueue,
    private readonly decoding: DecodeSet,
    private readonly limits: SchedulerLimits,
    private readonly observer: EngineObserver,
  ) {}

  schedule(plan: Plan, now: number): void {
    plan.clear();
    this.#promote();
    this.#decode(plan);
    this.#catchUp(plan);
    this.#fill(plan);
    this.#admit(plan, now);
    // A forking prompt of one token, or found in the cache up to its last, has no row of its own: the forks run now.
    if (plan.rows === 0 && this.#promote()) this.#decode(plan);
  }

  /** Running requests in order of arrival. */
  running(): Request[] {
    const requests = new Set(this.queue.filling);
    for (const choice of this.decoding.choices) requests.add(choice.request);
    return [...requests].sort((a, b) => a.arrival - b.arrival);
  }

  /** Requests whose prompt has been submitted as far as the filler goes: their choices fork and join the decode set. */
  #promote(): boolean {
    const before = this.queue.filling.length;
    for (let i = 0; i < this.queue.filling.length;) {
      const request = this.queue.filling[i];
      const filler = request?.filler;
      if (request === undefined || filler === undefined || !this.#filled(request, filler)) {
        i++;
        continue;
      }
      request.filler = undefined;
      this.queue.filled(request);
      this.decoding.join(request);
    }
    return this.queue.filling.length < before;
  }

  #filled(request: Request, filler: Choice): boolean {
    const forks = request.unfinished().length > 1;
    if (!forks) return filler.computed >= filler.known;
    if (filler.computed < request.prompt.length - 1) return false;
    const blocks = this.memory.forkBlocks(request);
    if (!this.#makeRoom(request, blocks, undefined)) return false;
    this.memory.fork(request, filler);
    return true;
  }

  #decode(plan: Plan): void {
    this.#behind.length = 0;
    const { choices } = this.decoding;
    // By index: making room takes the youngest out of the list's end.
    for (let i = 0; i < choices.length && plan.tokens < this.limits.stepTokens; i++) {
      const choice = choices[i];
      if (choice === undefined || choice.request.paused) continue;
      const position = choice.computed;
      if (choice.pending === 0 && position < choice.known - 1) {
        this.#behind.push(choice);
        continue;
      }
      const lastRun = !choice.mayDraw;
      if (lastRun && position >= choice.known) continue;
      if (this.#grow(choice, position + 1, plan)) plan.add(choice, position, 1, !lastRun);
    }
  }

  /** Choices that run tokens again: after a preemption, or drawn on a lost worker. */
  #catchUp(plan: Plan): void {
    for (const choice of this.#behind) {
      if (choice.request.state !== 'running') continue;
      this.#addSpan(plan, choice, choice.known);
    }
  }

  #fill(plan: Plan): void {
    for (const request of [...this.queue.filling]) {
      const { filler } = request;
      if (filler === undefined || request.paused || request.state !== 'running') continue;
      this.#addSpan(plan, filler, fillTarget(request, filler));
    }
  }

  #addSpan(plan: Plan, choice: Choice, limit: number): void {
    const { request } = choice;
    const left = promptBudget(this.limits, plan.decodeTokens) - (plan.tokens - plan.decodeTokens);
    // A measurement is in no hurry: clients' tokens are.
    const most = plan.decodeTokens > 0 ? (request.measure?.rowTokens ?? left) : left;
    const budget = Math.min(left, most);
    const start = choice.computed;
    const end = spanEnd(choice, limit, budget);
    if (end <= start || !this.#grow(choice, end, plan)) return;
    const draws = end === choice.known && choice.mayDraw && choice.pending === 0;
    const reads =
      choice === request.filler && request.lacksPromptLogprobs && start < request.prompt.length - 1;
    plan.add(choice, start, end - start, draws, reads);
  }

  #admit(plan: Plan, now: number): void {
    for (const request of [...this.queue.waiting]) {
      if (request.paused) continue;
      if (plan.tokens - plan.decodeTokens >= promptBudget(this.limits, plan.decodeTokens)) return;
      // Draws of its time before preemption are still in flight.
      if (request.choices.some((choice) => choice.pending > 0)) return;
      const admission = this.#admissible(request, plan.rows > 0);
      if (admission === undefined) {
        if (plan.rows === 0) this.#evictPaused(request);
        return;
      }
      if (request.lacksPromptLogprobs) request.promptLogprobs = [];
      this.memory.admit(admission);
      request.state = 'running';
      request.admittedAt ??= now;
      request.filler = admission.filler;
      this.queue.fill(request);
      if (request.cachedTokens === undefined) {
        request.cachedTokens = Math.min(admission.filler.computed, request.prompt.length);
        if (!request.wantsPromptLogprobs && request.measure === undefined)
          this.observer.prefixLookup(request.prompt.length, request.cachedTokens);
      }
      this.#addSpan(plan, admission.filler, fillTarget(request, admission.filler));
    }
  }

  /** What admitting the request takes, when there is room for it. `hasWork`: this step runs something anyway. */
  #admissible(request: Request, hasWork: boolean): Admission | undefined {
    const { blocks } = this.memory;
    const reserve = admissionReserve(this.decoding.choices.length);
    if (!this.memory.hasSeats(request)) return undefined;
    // Looking a long prompt up in every step while it waits would cost more than the step.
    if (hasWork && !blocks.canAllocate(request.blocksNeeded + reserve)) return undefined;
    const admission = this.memory.admission(request);
    request.blocksNeeded = this.memory.blocksNeeded(admission);
    return blocks.canAllocate(request.blocksNeeded + reserve) ? admission : undefined;
  }

  #grow(choice: Choice, positions: number, plan: Plan): boolean {
    if (!this.memory.canGrow(choice, positions)) {
      const needed = blocksFor(positions) - choice.table.length;
      if (!this.#makeRoom(choice.request, needed, plan)) return false;
    }
    this.memory.grow(choice, positions);
    return true;
  }

  /** Preempts until so many blocks can be allocated; false when they come only as steps retire, or never now. */
  #makeRoom(needer: Request, blocks: number, plan: Plan | undefined): boolean {
    const manager = this.memory.blocks;
    while (!manager.canAllocate(blocks)) {
      if (manager.available + manager.retiringCount >= blocks) return false;
      const victim = chooseVictim(this.running(), needer);
      if (victim === undefined) return false;
      this.#preempt(victim, plan);
    }
    return true;
  }

  /** Nothing runs, and clients that do not read hold what `waiting` needs: one of them gives way. */
  #evictPaused(waiting: Request): void {
    const paused = this.running().filter((request) => request.paused);
    const victim = chooseVictim(paused, waiting);
    if (victim !== undefined) this.#preempt(victim, undefined);
  }

  #preempt(request: Request, plan: Plan | undefined): void {
    plan?.drop(request);
    for (const choice of request.unfinished()) {
      this.decoding.leave(choice);
      this.memory.vacate(choice);
    }
    this.queue.leave(request);
    request.filler = undefined;
    request.state = 'waiting';
    request.preemptions++;
    this.queue.wait(request);
    this.observer.preempted();
  }
}

/** How far the filler runs: to the last prompt token when others fork there, else through all it knows. */
function fillTarget(request: Request, filler: Choice): number {
  return request.unfinished().length > 1 ? request.prompt.length - 1 : filler.known;
}
