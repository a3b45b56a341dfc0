#include "device/cuda/probe/driver.h"

namespace spotlight {

Driver::Driver() : library_(kDriverLibrary) {
  library_.find("cuInit", init);
  library_.find("cuGetErrorString", error_text);
  library_.find("cuDriverGetVersion", version);
  library_.find("cuDeviceGetCount", count);
  library_.find("cuDeviceGet", device);
  library_.find("cuDeviceGetName", name);
  library_.find("cuDeviceTotalMem_v2", memory);
  library_.find("cuDeviceGetAttribute", attribute);
  library_.find("cuDeviceGetUuid_v2", uuid);
}

Management::Management() : library_(kManagementLibrary) {
  library_.find("nvmlInit_v2", init);
  library_.find("nvmlShutdown", shutdown);
  library_.find("nvmlSystemGetDriverVersion", driver_version);
  library_.find("nvmlDeviceGetHandleByUUID", device);
  library_.find("nvmlDeviceGetMemoryInfo", memory);
}

}  // namespace spotlight
