// A4. The loop over rollouts, what operators may do with them, and the artifact each request is pinned to.
import { Inject, Module } from '@nestjs/common';
import { ArtifactsModule } from '../artifacts/artifacts.module.js';
import { ArtifactUses } from '../artifacts/uses.js';
import { AuthModule } from '../auth/auth.module.js';
import { WorkersModule } from '../workers/workers.module.js';
import { LiveRollouts } from './live-rollouts.js';
import { RolloutLoop } from './loop.js';
import { Reconciler } from './reconciler.js';
import { usedByRollout } from './rollout-rows.js';
import { RolloutViews } from './rollout-view.js';
import { RolloutWorkers } from './rollout-workers.js';
import { RolloutsController } from './rollouts.controller.js';
import { RolloutsService } from './rollouts.service.js';

@Module({
  imports: [AuthModule, WorkersModule, ArtifactsModule],
  controllers: [RolloutsController],
  providers: [RolloutWorkers, Reconciler, LiveRollouts, RolloutLoop, RolloutsService, RolloutViews],
  exports: [LiveRollouts, RolloutLoop],
})
export class RolloutsModule {
  constructor(@Inject(ArtifactUses) uses: ArtifactUses) {
    uses.add(usedByRollout);
  }
}
