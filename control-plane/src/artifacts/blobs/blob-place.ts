// `--artifact-store` as a place: a folder, or s3://BUCKET/PREFIX. The client of S3 is loaded only where it is one: it is large, and most
// servers have a folder.
import { join } from 'node:path';
import type { Config } from '../../config/config.js';
import type { BlobStore } from './blob-store.js';
import { FolderStore } from './folder-store.js';

const ATTEMPTS = 4;
/** Of connecting, and of a connection on which nothing moves. */
const TIMEOUTS = { connectionTimeout: 5_000, socketTimeout: 30_000 } as const;

/** [async] Touches nothing yet: a store that is away must not hold up a start. */
export async function openBlobStore(
  config: Pick<Config, 'data' | 'artifactStore' | 's3Endpoint'>,
): Promise<BlobStore> {
  const place = config.artifactStore;
  if (place === undefined) return new FolderStore(join(config.data, 'artifacts'));
  if (place.bucket === undefined) return new FolderStore(place.path);
  const [{ S3Client }, { S3Store }] = await Promise.all([
    import('@aws-sdk/client-s3'),
    import('./s3-store.js'),
  ]);
  // Region and credentials come by the SDK's own chain: variables, profile, the machine's role.
  const endpoint =
    config.s3Endpoint === undefined ? {} : { endpoint: config.s3Endpoint, forcePathStyle: true };
  return new S3Store(
    new S3Client({ maxAttempts: ATTEMPTS, requestHandler: TIMEOUTS, ...endpoint }),
    place.bucket,
    place.path,
  );
}
