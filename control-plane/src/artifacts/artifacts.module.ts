// A3. The registry of hash artifacts: uploads, admission, validation, and the bytes.
import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.js';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { DeploymentsModule } from '../deployments/deployments.module.js';
import { WorkersModule } from '../workers/workers.module.js';
import { Admission } from './admission.js';
import { Adoption } from './adopt.js';
import { ArtifactsService } from './artifacts.service.js';
import { openBlobStore } from './blobs/blob-place.js';
import { BLOB_STORE } from './blobs/blob-store.js';
import { ArtifactDoor } from './fetch.js';
import { Sweep } from './sweep.js';
import { Uploads } from './uploads.js';
import { ArtifactUses } from './uses.js';
import { Validation } from './validation.js';

@Module({
  imports: [AuthModule, WorkersModule, DeploymentsModule],
  providers: [
    { provide: BLOB_STORE, inject: [CONFIG], useFactory: (config: Config) => openBlobStore(config) },
    ...[Admission, Uploads, ArtifactUses, ArtifactsService, Validation, Adoption, Sweep, ArtifactDoor],
  ],
  exports: [Uploads, ArtifactUses, ArtifactsService, Validation, ArtifactDoor],
})
export class ArtifactsModule {}
