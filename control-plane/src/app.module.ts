// The rooms in the order of a request's way. A route without a declared scope is refused, everything thrown ends in one filter.
import type { DynamicModule } from '@nestjs/common';
import { Module } from '@nestjs/common';
import { APP_FILTER, APP_GUARD } from '@nestjs/core';
import type { Transport } from '@spotlight/proto/transport';
import { AdminModule } from './admin/admin.module.js';
import { ArtifactsModule } from './artifacts/artifacts.module.js';
import { AuthGuard } from './auth/auth.guard.js';
import { AuthModule } from './auth/auth.module.js';
import type { Config } from './config/config.js';
import { ConfigModule } from './config/config.module.js';
import { DeploymentsModule } from './deployments/deployments.module.js';
import { HttpErrorFilter } from './errors/http-error.filter.js';
import { GenerationModule } from './generation/generation.module.js';
import { InferenceModule } from './inference/inference.module.js';
import { ModelsModule } from './models/models.module.js';
import { OpenAiModule } from './openai/openai.module.js';
import { RolloutsModule } from './rollouts/rollouts.module.js';
import { RoutingModule } from './routing/routing.module.js';
import { StorageModule } from './storage/storage.module.js';
import type { Log } from './telemetry/log.js';
import { ProbesModule } from './telemetry/probes.module.js';
import { TelemetryModule } from './telemetry/telemetry.module.js';
import { TokenizeModule } from './tokenize/tokenize.module.js';
import { WorkersModule } from './workers/workers.module.js';

@Module({})
export class AppModule {
  static forRoot(config: Config, log: Log, transport: Transport): DynamicModule {
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(config, transport),
        TelemetryModule.forRoot(log),
        StorageModule,
        AuthModule,
        OpenAiModule,
        GenerationModule,
        TokenizeModule,
        InferenceModule,
        RoutingModule,
        WorkersModule,
        ModelsModule,
        DeploymentsModule,
        ArtifactsModule,
        RolloutsModule,
        AdminModule,
        ProbesModule,
      ],
      providers: [
        { provide: APP_GUARD, useExisting: AuthGuard },
        { provide: APP_FILTER, useClass: HttpErrorFilter },
      ],
    };
  }
}
