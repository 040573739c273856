// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IUniswapV2Pair} from "../src/interfaces/IUniswapV2Pair.sol";
import {Test} from "./Test.sol";
import {TestToken} from "./Tokens.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @dev Cheatcodes that read the published bytecode.
interface VmFiles {
    function readFile(string calldata path) external view returns (string memory);
    function parseJsonString(string calldata json, string calldata key) external pure returns (string memory);
    function parseBytes(string calldata hexText) external pure returns (bytes memory);
}

interface IUniswapV2Factory {
    function getPair(address a, address b) external view returns (address);
}

interface ITradingPair is IUniswapV2Pair {
    function swap(uint256 amount0, uint256 amount1, address to, bytes calldata data) external;
    function sync() external;
}

interface IUniswapV2Router {
    function addLiquidity(
        address a,
        address b,
        uint256 amountA,
        uint256 amountB,
        uint256 minA,
        uint256 minB,
        address to,
        uint256 deadline
    ) external returns (uint256, uint256, uint256);

    function swapExactTokensForTokens(
        uint256 amount,
        uint256 min,
        address[] calldata path,
        address to,
        uint256 deadline
    ) external returns (uint256[] memory);
}

/// @dev The real Uniswap v2: factory, pair and router as npm has them.
abstract contract UniswapV2 is Test {
    IUniswapV2Factory internal _factory;
    IUniswapV2Router internal _router;

    function _deployUniswap() internal {
        _factory = IUniswapV2Factory(_deploy("v2-core/build/UniswapV2Factory.json", abi.encode(address(0))));
        address weth = _deploy("v2-periphery/build/WETH9.json", "");
        _router =
            IUniswapV2Router(_deploy("v2-periphery/build/UniswapV2Router02.json", abi.encode(address(_factory), weth)));
    }

    /// @dev Puts this much into the pair of the two, which is made if there is none.
    function _addLiquidity(TestToken a, uint256 amountA, TestToken b, uint256 amountB)
        internal
        returns (ITradingPair pair)
    {
        a.mint(address(this), amountA);
        b.mint(address(this), amountB);
        a.approve(address(_router), amountA);
        b.approve(address(_router), amountB);
        _router.addLiquidity(address(a), address(b), amountA, amountB, 0, 0, address(this), block.timestamp);
        return ITradingPair(_factory.getPair(address(a), address(b)));
    }

    /// @dev Sells `amount` of one for the other, for nothing but the trade.
    function _trade(TestToken from, TestToken to, uint256 amount) internal returns (uint256 bought) {
        from.mint(address(this), amount);
        return _swap(_router, from, to, amount);
    }

    function _swap(IUniswapV2Router router, IERC20 from, IERC20 to, uint256 amount) internal returns (uint256) {
        from.approve(address(router), amount);
        address[] memory path = new address[](2);
        (path[0], path[1]) = (address(from), address(to));
        return router.swapExactTokensForTokens(amount, 0, path, address(this), block.timestamp)[1];
    }

    function _deploy(string memory file, bytes memory arguments) private returns (address deployed) {
        VmFiles files = VmFiles(address(vm));
        string memory json = files.readFile(string.concat("lib/uniswap/", file));
        string memory code = files.parseJsonString(json, ".bytecode");
        bytes memory creation = bytes.concat(files.parseBytes(string.concat("0x", code)), arguments);
        assembly ("memory-safe") {
            deployed := create(0, add(creation, 32), mload(creation))
        }
        vm.assertTrue(deployed != address(0), file);
    }
}
