// Who holds which blocks and native sequences: admission, forks, growth and departure, each all or nothing. A choice
// leaves exactly once for every time it came in, whichever of finish, cancel, preemption or fault ends it. A seat (an
// open native sequence) is free again when the step that closes it has retired.
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { BlockId, SequenceId } from '@spotlight/cuda';
import type { BlockManager } from '../kv/block-manager.js';
import { blocksFor } from '../kv/block-table.js';
import type { Choice, Request } from './request.js';

/** What admitting a request would take. */
export interface Admission {
  /** The choice that fills the prompt. */
  readonly filler: Choice;
  readonly choices: readonly Choice[];
  /** Positions the filler runs before the others fork, or all it knows when it is alone. */
  readonly target: number;
  /** Cached blocks of its beginning. */
  readonly hits: readonly BlockId[];
  /** Blocks to allocate for the whole request, forks included. */
  readonly blocks: number;
}

export class SequenceMemory {
  /** Sequences to close with the next batch. */
  readonly closing: SequenceId[] = [];
  /** The last step submitted; blocks given back now are free when it has retired. */
  submitted = 0;
  #seats = 0;

  constructor(
    readonly blocks: BlockManager,
    readonly maxSequences: number,
  ) {}

  /** Choices in, and sequences whose closing has not retired. */
  get seats(): number {
    return this.#seats;
  }

  /** Looks the prompt up in the prefix cache; at least one token is left to run. */
  admission(request: Request): Admission {
    const choices = request.unfinished();
    const [filler] = choices;
    if (filler === undefined) throw new RangeError(`request ${request.id} has no choice to run`);
    const forks = choices.length > 1;
    const promptEnd = request.prompt.length - 1;
    const target = forks ? promptEnd : filler.known;
    // What is to be measured has to run.
    const end = request.measure === undefined ? (forks ? promptEnd : target - 1) : request.boundary;
    const hits = request.lacksPromptLogprobs ? [] : this.#lookUp(filler, Math.floor(end / BLOCK_SIZE));
    const shared = forks ? Math.floor(promptEnd / BLOCK_SIZE) : 0;
    let blocks = shared - hits.length;
    for (const choice of choices) blocks += blocksFor(choice.known) - shared;
    return { filler, choices, target, hits, blocks };
  }

  hasSeats(request: Request): boolean {
    return this.#seats + request.unfinished().length <= this.maxSequences;
  }

  /** Blocks that must be available: those to allocate, and the hits that nobody holds yet. */
  blocksNeeded(admission: Admission): number {
    let needed = admission.blocks;
    for (const block of admission.hits) if (this.blocks.cache.isParked(block)) needed++;
    return needed;
  }

  /** Takes seats for all choices and blocks for the filler's part. Ask hasSeats and blocksNeeded first. */
  admit({ filler, choices, target, hits }: Admission): void {
    this.#seats += choices.length;
    for (const block of hits) {
      this.blocks.share(block);
      filler.table.push(block);
    }
    filler.computed = filler.retired = hits.length * BLOCK_SIZE;
    filler.registered = hits.length;
    this.#allocate(filler, blocksFor(target));
  }

  /** Blocks a fork of all other choices takes at once: a copy each of the block the prompt's last token stands in. */
  forkBlocks(request: Request): number {
    const partial = (request.prompt.length - 1) % BLOCK_SIZE !== 0;
    return partial ? request.unfinished().length - 1 : 0;
  }

  /**
   * The other choices begin where the filler stands, before the prompt's last token: full blocks are shared, the
   * block it stands in is copied. Ask canAllocate(forkBlocks) first.
   */
  fork(request: Request, filler: Choice): void {
    const at = request.prompt.length - 1;
    const shared = Math.floor(at / BLOCK_SIZE);
    for (const choice of request.unfinished()) {
      if (choice === filler) continue;
      for (let i = 0; i < shared; i++) {
        const block = filler.table.at(i);
        this.blocks.share(block);
        choice.table.push(block);
      }
      if (at % BLOCK_SIZE !== 0) {
        const source = filler.table.at(shared);
        this.blocks.share(source);
        choice.copyFrom = source;
        const copy = this.blocks.allocate();
        this.blocks.stale.copied(source, copy);
        choice.table.push(copy);
      }
      choice.computed = choice.retired = at;
      choice.registered = shared;
      choice.chain = request.openChain(choice, filler.chain.computed(shared));
    }
  }

  canGrow(choice: Choice, positions: number): boolean {
    return this.blocks.canAllocate(blocksFor(positions) - choice.table.length);
  }

  /** Blocks for so many positions. Ask canGrow first. */
  grow(choice: Choice, positions: number): void {
    this.#allocate(choice, blocksFor(positions));
  }

  /** The copy a fork began with has been submitted: its source may go. */
  copied(choice: Choice): void {
    if (choice.copyFrom === undefined) return;
    this.blocks.releaseOne(choice.copyFrom, this.submitted);
    choice.copyFrom = undefined;
  }

  /** A choice of a running request gives back its seat, sequence and blocks. */
  vacate(choice: Choice): void {
    if (choice.sequence === undefined) this.#seats--;
    else this.closing.push(choice.sequence);
    if (choice.copyFrom !== undefined) this.blocks.releaseOne(choice.copyFrom, this.submitted);
    this.blocks.release(choice.table, this.submitted);
    choice.vacate();
  }

  /** A step has retired that closed so many sequences. */
  retire(step: number, closed: number): void {
    this.#seats -= closed;
    this.blocks.retire(step);
  }

  #allocate(choice: Choice, count: number): void {
    while (choice.table.length < count) choice.table.push(this.blocks.allocate());
  }

  #lookUp(choice: Choice, most: number): BlockId[] {
    const hits: BlockId[] = [];
    while (hits.length < most) {
      const block = this.blocks.cache.find(choice.chain.key(hits.length));
      if (block === undefined) break;
      hits.push(block);
    }
    return hits;
  }
}
