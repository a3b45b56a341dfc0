// R7: the typed face of the native module. Types and errors need no addon, so that a test on the fake engine loads none: the addon is
// loaded by the first createEngine, inspectArtifact or devices.
export { DEFAULT_ATTENTION, settingsDigest } from './attention.js';
export { createEngine, devices, inspectArtifact } from './engine.js';
export * from './errors.js';
export * from './types.js';
