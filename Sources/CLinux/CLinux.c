// SwiftPM builds a C target only if it has a source file; everything is in include/CLinux.h.
#include "CLinux.h"
