"""Public images (MNIST, Fashion-MNIST): files, reduced sets, classical copies, classifiers."""
