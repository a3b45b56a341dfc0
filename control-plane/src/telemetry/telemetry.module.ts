// Log and metrics are global: every room writes to them, and no room's tests should have to import a module for that.
import type { DynamicModule } from '@nestjs/common';
import { Global, Module } from '@nestjs/common';
import type { Log } from './log.js';
import { LOG } from './log.js';
import { Metrics } from './metrics.js';
import { RequestLog } from './request-log.js';

@Global()
@Module({})
export class TelemetryModule {
  static forRoot(log: Log): DynamicModule {
    return {
      module: TelemetryModule,
      providers: [{ provide: LOG, useValue: log }, Metrics, RequestLog],
      exports: [LOG, Metrics, RequestLog],
    };
  }
}
