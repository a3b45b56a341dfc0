// R4. The fleet (who is alive), the Join door that feeds it and the rows behind it.
import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.js';
import { WORKER_FLEET } from './api.js';
import { DesiredState } from './desired-state.js';
import { Fleet } from './fleet.js';
import { FleetService } from './fleet.service.js';
import { Registry } from './registry.js';

@Module({
  imports: [AuthModule],
  providers: [Registry, DesiredState, Fleet, FleetService, { provide: WORKER_FLEET, useExisting: Fleet }],
  exports: [WORKER_FLEET, Fleet, FleetService, Registry, DesiredState],
})
export class WorkersModule {}
