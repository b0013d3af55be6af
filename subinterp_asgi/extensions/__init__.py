"""What can be known of extension modules before they are imported.

A worker's interpreter has a GIL of its own, and CPython refuses there what does not say that it
supports that. Nothing here loads or executes anything: files are read. No start of a server imports
any of it.

===============  ================================================================================
``report``       the command ``subinterp-asgi doctor``
``doctor``       follows an application's imports, and says what becomes of each module
``copying``      whether a module that is refused may work from a private copy
``environment``  where modules are, and of which distributions
``imports``      what a module's source says that it imports
``remedies``     what would do about a module that is refused, by name
``reader``       the verdict on a file
``elf``          what the dynamic linker would read of a shared library
===============  ================================================================================
"""
