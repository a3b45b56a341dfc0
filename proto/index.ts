// Everything made from spotlight/v1/*.proto, under one name. Generated code is never imported by another path.
export * from './gen/spotlight/v1/types.js';
export * from './gen/spotlight/v1/generation.js';
export * from './gen/spotlight/v1/worker.js';
export * from './gen/spotlight/v1/fleet.js';
