// R7: the typed face of the native module. Types and errors need no addon, so that a test on the fake engine loads none: the addon is
// loaded by the first createEngine, createTrainer, inspectArtifact or devices.
export { DEFAULT_ATTENTION, settingsDigest } from './attention.js';
export { createEngine, devices, inspectArtifact, selectors } from './engine.js';
export * from './errors.js';
export { readCheckpoint, writeCheckpoint } from './train/checkpoint.js';
export type { TrainingIdentity } from './train/checkpoint.js';
export { annotateArtifact, DERIVED_FROM } from './artifact/annotate.js';
export { compareArtifacts } from './artifact/compare.js';
export type { ArtifactComparison, LayerComparison } from './artifact/compare.js';
export { importPth } from './artifact/pth/import-pth.js';
export type { PthImport } from './artifact/pth/import-pth.js';
export { exportArtifact } from './train/export.js';
export { createTrainer, defaultRecipe } from './train/trainer.js';
export * from './train/types.js';
export * from './types.js';
