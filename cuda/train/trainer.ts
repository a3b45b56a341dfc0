// A1: the native trainer behind its typed face, and the recipes it starts from.
import { createHash } from 'node:crypto';
import { loadAddon } from '../addon.js';
import type { NativeTrainer } from '../addon.js';
import { toEngineError } from '../errors.js';
import type { TokenizerMetadata } from '../types.js';
import type {
  Recipe,
  Trainer,
  TrainerInfo,
  TrainerOptions,
  TrainerState,
  TrainQuality,
  TrainStep,
} from './types.js';

/** linear-asym's is the best known (train/README.md has the experiments), mlp's the paper's. */
export function defaultRecipe(encoder: Recipe['encoder']): Recipe {
  const paper = encoder === 'mlp';
  return {
    encoder,
    bits: 128,
    hidden: 128,
    steps: paper ? 500 : 2500,
    updates: 1,
    sequence: 8192,
    seed: 0,
    budget: 0.02,
    rows: 96,
    firstShare: 8,
    top: paper ? 64 : 128,
    other: paper ? 192 : 384,
    border: paper ? 0 : 0.5,
    signKeys: !paper,
    keyGamma: paper ? 64 : 8,
    // linear-asym asks with 4-bit queries: a steep softsign would train it for signs.
    queryGamma: paper ? 64 : 1,
    sharpness: paper ? 1 : 0.25,
    massWeights: true,
    learningRate: paper ? 1e-3 : 8e-3,
    beta1: 0.9,
    beta2: 0.98,
    epsilon: 1e-8,
    weightDecay: 0.1,
    warmup: 0.02,
    denseLayers: [],
  };
}

async function wrap<T>(call: () => T | Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw toEngineError(error);
  }
}

class NativeBackedTrainer implements Trainer {
  private disposing: Promise<void> | undefined;

  constructor(
    private readonly native: NativeTrainer,
    readonly info: TrainerInfo,
    readonly recipe: Recipe,
  ) {}

  tokenizerMetadata(): TokenizerMetadata | undefined {
    try {
      return this.native.tokenizer();
    } catch (error) {
      throw toEngineError(error);
    }
  }

  step(tokens: ArrayLike<number>): Promise<TrainStep | undefined> {
    return wrap(() => this.native.step(Int32Array.from(tokens)));
  }

  measure(tokens: ArrayLike<number>, rows: number): Promise<TrainQuality | undefined> {
    return wrap(() => this.native.measure(Int32Array.from(tokens), rows));
  }

  save(): Promise<TrainerState> {
    return wrap(() => this.native.save());
  }

  load(state: TrainerState): Promise<void> {
    return wrap(() => this.native.load(state));
  }

  cancel(): void {
    this.native.cancel();
  }

  dispose(): Promise<void> {
    this.disposing ??= wrap(() => this.native.dispose());
    return this.disposing;
  }
}

/**
 * Opens a model for training. Rejects as createEngine does; INVALID_ARGUMENT names the recipe's field.
 */
export async function createTrainer(options: TrainerOptions): Promise<Trainer> {
  const addon = loadAddon();
  const native = await wrap(() => addon.createTrainer(options));
  const { fingerprintText, ...info } = native.info();
  const fingerprint = createHash('sha256').update(fingerprintText).digest('hex');
  return new NativeBackedTrainer(native, { ...info, fingerprint }, options.recipe);
}
