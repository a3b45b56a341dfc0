// An artifact as the admin API tells it: its row and the deployments that answer with it. Pure.
import type { ArtifactQuality, ArtifactState } from '../storage/schema.js';
import type { ArtifactRow } from './artifact-rows.js';

export interface ArtifactView {
  readonly digest: string;
  readonly state: ArtifactState;
  /** Why it was rejected or retired; empty otherwise. */
  readonly reason: string;
  readonly encoder: string;
  readonly bits: number;
  readonly headDim: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  /** Layers that carry codes; null until the bytes are here. */
  readonly layers: readonly number[] | null;
  /** Of the model it was made for. */
  readonly fingerprint: string;
  /** Bytes; null until they are here. */
  readonly size: number | null;
  readonly parent: string | null;
  readonly source: string;
  readonly quality: ArtifactQuality | null;
  readonly metadata: Readonly<Record<string, string>> | null;
  /** Ids of the deployments it is active in. */
  readonly deployments: readonly string[];
  readonly created: Date;
  readonly changed: Date;
}

export function artifactView(
  { blob: _blob, ...row }: ArtifactRow,
  users: readonly { readonly id: string; readonly activeArtifact: string | null }[],
): ArtifactView {
  return {
    ...row,
    deployments: users.filter(({ activeArtifact }) => activeArtifact === row.digest).map(({ id }) => id),
  };
}
