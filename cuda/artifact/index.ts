// What a process without the native module may use of this room: reading an artifact as it streams by, and writing one. Nothing here
// loads the addon.
export { EngineError } from '../errors.js';
export type { ArtifactLayout } from './layout.js';
export type { ScannedArtifact } from './scan.js';
export { ArtifactScan } from './scan.js';
export type { ArtifactTensor } from './write.js';
export { readSafetensors } from './safetensors.js';
export { writeArtifact } from './write.js';
