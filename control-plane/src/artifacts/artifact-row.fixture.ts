// Rows of artifacts for tests that need one without its bytes being uploaded.
import type { artifacts } from '../storage/schema.js';

export function artifactRow(
  digest: string,
  parts: Partial<typeof artifacts.$inferInsert> = {},
): typeof artifacts.$inferInsert {
  return {
    digest,
    state: 'validated',
    fingerprint: 'f1',
    encoder: 'linear-asym',
    bits: 128,
    headDim: 64,
    queryHeads: 9,
    kvHeads: 3,
    layers: [0, 1],
    metadata: {},
    size: 1,
    blob: digest,
    source: 'upload',
    ...parts,
  };
}
